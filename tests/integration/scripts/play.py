# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A torchrun program that needs no torch: `play.py MODE [ARG...]`, the mode says what a rank does."""

import json
import os
import signal
import sys
import time

RANK, WORLD = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def say(*arguments: str) -> None:
    """Tell what this rank is and was given."""
    names = ("LOCAL_RANK", "MASTER_ADDR", "UGRO_JOB_ID", "UGRO_ATTEMPT", "GLOO_SOCKET_IFNAME", "GREETING")
    print(json.dumps({"rank": RANK, "world": WORLD, "args": arguments, "env": {n: os.environ.get(n) for n in names}}))


def steps(count: str, seconds: str) -> None:
    """Print a loss for each step."""
    for step in range(1, int(count) + 1):
        print(f"step {step} loss={1 / step:.4f}", flush=True)
        time.sleep(float(seconds))


def wait() -> None:
    """Run until somebody ends it."""
    print("waiting", flush=True)
    while True:
        signal.pause()


def save() -> None:
    """Run until SIGTERM, then leave a checkpoint, as training that knows preemption does."""

    def leave(number: int, frame: object) -> None:
        with open(os.path.join(os.environ["UGRO_CHECKPOINT_DIR"], f"last_{RANK}.pt"), "w") as file:
            file.write("weights")
        print("saved", flush=True)
        sys.exit(0)

    signal.signal(signal.SIGTERM, leave)
    wait()


def deaf() -> None:
    """Ignore every polite signal."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    wait()


def fail(rank: str) -> None:
    """Raise on one rank while the others wait for it."""
    if int(rank) == RANK:
        time.sleep(0.5)
        raise RuntimeError(f"rank {RANK} has had enough")
    wait()


def daemonise(then: str) -> None:
    """Leave a daemon behind by double fork and setsid, deaf and with its parent gone; then do `then`."""
    if os.fork() == 0:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if os.fork() == 0:
            time.sleep(3600)
        os._exit(0)
    os.wait()
    time.sleep(0.3)
    print("daemon started", flush=True)
    if then == "wait":
        wait()


def fill() -> None:
    """Write checkpoints until the disk is full."""
    size = 0
    with open(os.path.join(os.environ["UGRO_CHECKPOINT_DIR"], f"big_{RANK}.pt"), "wb", buffering=0) as file:
        while RANK == 1 and size < 1 << 31:
            size += file.write(b"x" * (1 << 20))
    wait()


def flood(megabytes: str) -> None:
    """Print much, fast, and end; each line has its number."""
    line = "x" * 1000
    for number in range(int(megabytes) * 1000):
        print(f"{number} {line}")


def heal() -> None:
    """Fail in the first attempt, do well in the second."""
    attempt = os.environ["UGRO_ATTEMPT"]
    print(f"attempt {attempt}", flush=True)
    if attempt == "1":
        sys.exit(3)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
