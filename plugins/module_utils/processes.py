# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Processes of this machine: who lives, which belong to a job, and how to end them all.

Linux only; reads ``/proc``. A job's processes are found in two ways, because each alone leaks: by descent (the
supervisor is a child subreaper, so orphans come back to it) and by ``UGRO_TOKEN`` in the environment (which
survives a daemon that re-parented itself while no supervisor lived).
"""

from __future__ import annotations

import ctypes
import os
import signal
import time

TYPE_CHECKING = False  # importing typing costs a node 3 ms
if TYPE_CHECKING:
    from typing import Dict, Iterable, List, Optional, Set, Tuple

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def boot_id() -> str:
    """Return the id of this boot of the kernel, or "" where there is none."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _stat(pid: int) -> Optional[List[str]]:
    """Return the fields of /proc/PID/stat after the command name, or None if there is no such process."""
    try:
        with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None


def start_ticks(pid: int) -> int:
    """Return when the process started, in clock ticks since boot; with the pid it names a process for good. 0: gone."""
    fields = _stat(pid)
    return int(fields[19]) if fields else 0


def is_alive(pid: int, ticks: int = 0) -> bool:
    """Say whether the process runs (a zombie does not), and is the one that started at `ticks` when given."""
    fields = _stat(pid)
    if not fields or fields[0] in "ZX":
        return False
    return not ticks or int(fields[19]) == ticks


def state_and_ticks(pid: int) -> Tuple[str, int]:
    """Return the state letter of a process and the CPU time it has used, in clock ticks; ("", 0) if it is gone."""
    fields = _stat(pid)
    return (fields[0], int(fields[11]) + int(fields[12])) if fields else ("", 0)


def zombie_exit(pid: int) -> Optional[int]:
    """Return the exit code of a process that ended and was not reaped yet (negative: signal), else None.

    Field 52 of /proc/PID/stat is the wait status; see proc(5).
    """
    fields = _stat(pid)
    if not fields or fields[0] != "Z" or len(fields) < 50:
        return None
    status = int(fields[49])
    return -(status & 0x7F) if status & 0x7F else status >> 8


def become_subreaper() -> None:
    """Make orphaned descendants children of this process instead of PID 1."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent() -> None:
    """Have the kernel SIGKILL this process when its parent ends; survives execve. For a child before exec."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def _table() -> Dict[int, Tuple[int, str]]:
    """Return pid -> (parent pid, state) of every process."""
    table = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            fields = _stat(int(entry))
            if fields:
                table[int(entry)] = (int(fields[1]), fields[0])
    return table


def descendants(root: int) -> Set[int]:
    """Return the living descendants of `root`."""
    table = _table()
    children: Dict[int, List[int]] = {}
    for pid, (parent, _state) in table.items():
        children.setdefault(parent, []).append(pid)
    found: Set[int] = set()
    todo = [root]
    while todo:
        for child in children.get(todo.pop(), []):
            if child not in found:
                found.add(child)
                todo.append(child)
    return {pid for pid in found if table[pid][1] not in "ZX"}


def with_token(token: str) -> Set[int]:
    """Return the living processes whose environment holds ``UGRO_TOKEN=token`` (those this user may read)."""
    needle = b"UGRO_TOKEN=" + token.encode()
    found = set()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open("/proc/%s/environ" % entry, "rb") as file:
                if needle in file.read().split(b"\0") and is_alive(int(entry)):
                    found.add(int(entry))
        except OSError:
            continue  # gone meanwhile, or another user's
    found.discard(os.getpid())
    return found


def signal_all(pids: Iterable[int], number: int) -> None:
    """Send a signal to each process that still exists and is ours."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


def sweep(token: str, root: Optional[int] = None, deadline_s: float = 5.0) -> Tuple[int, int]:
    """SIGKILL everything that belongs to the job until nothing is left.

    Returns:
        How many processes were killed, and how many still live at the deadline (0 unless the kernel holds them).
    """
    killed: Set[int] = set()
    end = time.monotonic() + deadline_s
    while True:
        alive = with_token(token) | (descendants(root) if root else set())
        if not alive or time.monotonic() > end:
            return len(killed), len(alive)
        signal_all(alive, signal.SIGKILL)
        killed |= alive
        time.sleep(0.02)
