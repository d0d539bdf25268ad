# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Fails on rank 1 in the way that its argument names, while the other ranks wait."""

import argparse
import datetime
import os
import signal
import socket
import sys
import time

RANK = int(os.environ["RANK"])
REST = 60.0


def exception() -> None:
    """Raise in a function of its own, from another exception."""
    try:
        {}["weights"]
    except KeyError as error:
        raise ValueError("no weights\nfor this model") from error


def code() -> None:
    """End without a word."""
    sys.exit(3)


def refuses() -> None:
    """Find fault with an argument."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float)
    parser.parse_args(["--lr", "fast"])


def memory() -> None:
    """Ask for more memory than there is."""
    bytearray(1 << 60)


def lacks() -> None:
    """Import what is not there."""
    import no_such_package_of_mine  # noqa: F401


def full() -> None:
    """Write a checkpoint to a device that is always full."""
    with open("/dev/full", "wb", buffering=0) as file:
        file.write(b"weights")


def killed() -> None:
    """Be killed as by the kernel or a person."""
    os.kill(os.getpid(), signal.SIGKILL)


def crash() -> None:
    """Crash as native code does."""
    os.kill(os.getpid(), signal.SIGSEGV)


def port() -> None:
    """Bind a port that is taken."""
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        first.listen()
        second.bind(first.getsockname())


def _group(timeout_s: float) -> None:
    import torch.distributed as dist

    dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=timeout_s))


def _reduce() -> None:
    import torch
    import torch.distributed as dist

    dist.all_reduce(torch.ones(2))


def absent() -> None:
    """Rank 1 never comes to the second collective."""
    _group(3)
    _reduce()
    if RANK == 1:
        print("rank 1 goes its own way", flush=True)
        time.sleep(REST)
    _reduce()


def dtype() -> None:
    """Rank 1 raises, the others lose it in a collective."""
    import torch

    _group(30)
    _reduce()
    if RANK == 1:
        torch.ones(2, 2) @ torch.ones(2, 2, dtype=torch.float64)
    _reduce()


def starved() -> None:
    """Rank 1 is out of memory, while the others wait for it in a collective."""
    _group(1800)
    _reduce()
    if RANK == 1:
        bytearray(1 << 60)
    _reduce()


def uneven() -> None:
    """Rank 1 ends well, one step before the others."""
    _group(30)
    _reduce()
    if RANK == 1:
        os._exit(0)
    time.sleep(0.5)
    _reduce()


if __name__ == "__main__":
    mode = sys.argv[1]
    if mode in ("absent", "dtype", "starved", "uneven"):
        globals()[mode]()
    elif RANK == 1:
        time.sleep(0.3)
        globals()[mode]()
    time.sleep(REST)
