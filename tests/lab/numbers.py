# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The numbers of labs, whose they are: several processes boot and remove labs at the same time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

BASE = Path("/run/ugro-lab")
LOCK = Path("/run/ugro-lab.lock")
HIGHEST = 240


@contextlib.contextmanager
def turn() -> Iterator[None]:
    """Wait until no other process takes a number or removes what a dead process left; not to be nested."""
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # ends with the file
        yield


def claim(remove: Callable[[int], None]) -> int:
    """Take a free number; creating its folder is what makes it ours.

    The search starts at another number every second: a multiplexed connection to a host of the last lab
    may live on for a while, and must not be mistaken for one to a new host with that address.

    Args:
        remove: takes away what is left of a number whose process was killed before it had a lab.

    Raises:
        RuntimeError: all numbers are taken.
    """
    start = int(time.time())
    for offset in range(HIGHEST):
        number = (start + offset) % HIGHEST + 1
        folder = BASE / str(number)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            # A folder without a lab is one whose process was killed right here.
            if (folder / "state.json").exists() or time.time() - folder.stat().st_mtime < 60:
                continue
            remove(number)
            folder.mkdir(parents=True)
        return number
    raise RuntimeError(f"no free lab number; see {BASE}")


def me() -> tuple[int, str]:
    """Return what tells this process from all others, also from a later one with its pid."""
    return os.getpid(), _started(os.getpid())


def lives(owner: tuple[int, str]) -> bool:
    """Tell whether the process that `me` described is still there."""
    return _started(owner[0]) == owner[1]


def _started(pid: int) -> str:
    """Return when a process started, in kernel ticks."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
