# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Processes of this machine and of the hosts on it, as /proc shows them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path


def read(path: Path) -> bytes:
    """Return what a /proc file holds; nothing if its process has ended."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def namespace(pid: int) -> str:
    """Return the PID namespace of a process, which tells whose host it is; empty if it has ended."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended but was not waited for does not."""
    fields = read(Path(f"/proc/{pid}/stat")).rpartition(b")")[2].split()
    return bool(fields) and fields[0] not in (b"Z", b"X")


def children(pid: int) -> list[int]:
    """Return the children of a process, by reading every process: not all kernels list them."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = read(entry / "stat").rpartition(b")")[2].split()
            if fields and int(fields[1]) == pid:
                found.append(int(entry.name))
    return found


def wait_gone(pids: Iterable[int], seconds: float = 60) -> None:
    """Wait until none of the processes runs any more; 0 is no process."""
    deadline = time.monotonic() + seconds
    for pid in pids:
        while pid and is_alive(pid) and time.monotonic() < deadline:
            time.sleep(0.01)


def beside(leader: int, token: str = "") -> list[int]:
    """Return the processes in the PID namespace of `leader` that have `token` in their environment."""
    wanted = namespace(leader)
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or namespace(int(entry.name)) != wanted or not is_alive(int(entry.name)):
            continue
        if not token or token.encode() in read(entry / "environ"):
            found.append(int(entry.name))
    return sorted(found) if wanted else []
