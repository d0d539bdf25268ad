# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Where a process stands: by py-spy if the training environment has it, else what the kernel tells of its threads."""

from __future__ import annotations

import os
import subprocess
import time

from . import programs

_TIMEOUT_S = 10.0


def write(pid: int, python: str, path: str, why: str) -> None:
    """Append the stacks of process `pid` to the file `path`; what cannot be read is left out.

    Args:
        pid: the process.
        python: an interpreter; ``py-spy`` is looked for beside it, then in PATH.
        path: the file.
        why: what is said above the stacks.
    """
    text = _py_spy(pid, python) or _kernel(pid)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write("# %s process %d: %s\n%s\n" % (stamp, pid, why, text.rstrip()))
    except OSError:
        pass  # a full disk; the event tells of the rank all the same


def _py_spy(pid: int, python: str) -> str:
    beside = os.path.join(os.path.dirname(os.path.expanduser(python)), "py-spy")
    program = beside if os.access(beside, os.X_OK) else programs.which("py-spy")
    if not program:
        return ""
    try:
        done = subprocess.run(
            # Not blocking: a stopped process must not be woken, a running one not be held up.
            [program, "dump", "--nonblocking", "--pid", str(pid)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""


def _kernel(pid: int) -> str:
    lines = []
    folder = "/proc/%d/task" % pid
    try:
        threads = sorted(os.listdir(folder), key=int)
    except OSError:
        return "the process is gone"
    for thread in threads:
        where = os.path.join(folder, thread)
        state = next((line[6:].strip() for line in _read(where, "status").splitlines() if line[:6] == "State:"), "?")
        lines.append(
            "thread %s %s: state %s, waits in %s"
            % (thread, _read(where, "comm").strip(), state, _read(where, "wchan").strip() or "?")
        )
        lines += ["    " + line for line in _read(where, "stack").splitlines()]
    return "\n".join(lines)


def _read(folder: str, name: str) -> str:
    try:
        with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""  # root's alone, or the thread has ended
