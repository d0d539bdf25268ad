"""Runs one command and ends it when the process that asked for it is gone.

`runner.py` starts this file as a program of its own (standard library only, no site packages), between
`ugro` and `ansible-playbook`. Killing `ugro`, even with SIGKILL, would otherwise leave Ansible and its
workers running on: they live in sessions of their own that no signal to `ugro` reaches.

Usage: python -I -S run_guard.py PARENT_PID FOLDER COMMAND…; FOLDER is removed when the parent is gone.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

PID_FILE = "guard.pid"
POLL_S = 0.2
GRACE_S = 5.0
"""Seconds Ansible has to end by itself, which stops its workers too, before everything is killed."""


def descendants(root: int) -> list[int]:
    """Return the processes below `root`, parents before their children."""
    children: dict[int, list[int]] = {}
    for pid, parent in _parents():
        children.setdefault(parent, []).append(pid)
    found = [root]
    for pid in found:
        found.extend(children.get(pid, []))
    return found[1:]


def _parents() -> Iterator[tuple[int, int]]:
    """Yield every process with its parent, from /proc or, where there is none, from ps."""
    stats = list(Path("/proc").glob("[0-9]*/stat"))
    for stat in stats:
        try:
            yield int(stat.parent.name), int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it ended meanwhile
    if not stats:
        listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=False)
        for line in listing.stdout.splitlines():
            pid, parent = line.split()
            yield int(pid), int(parent)


def end(process: subprocess.Popen[bytes]) -> None:
    """Stop the command: politely, then whatever is left of its process tree by force."""
    tree = [process.pid, *descendants(process.pid)]
    process.terminate()
    deadline = time.monotonic() + GRACE_S
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in tree:
        try:
            os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # it ended by itself


def watch(parent: int, folder: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until the parent is gone (this process then has another), then end the command."""
    while os.getppid() == parent:
        time.sleep(POLL_S)
    end(process)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def main(arguments: list[str]) -> int:
    """Run the command and return its exit code; SIGTERM ends it with everything below it."""
    parent, folder, *command = arguments
    process = subprocess.Popen(command)

    def stop(_number: int, _frame: object) -> None:
        raise InterruptedError

    try:
        signal.signal(signal.SIGTERM, stop)
        ready = Path(folder, PID_FILE)
        ready.with_suffix(".new").write_text(str(os.getpid()))
        ready.with_suffix(".new").rename(ready)
        watcher = threading.Thread(target=watch, args=(int(parent), folder, process), daemon=True)
        watcher.start()
        code = process.wait()
    except InterruptedError:
        end(process)
        return 128 + signal.SIGTERM
    if os.getppid() != int(parent):
        watcher.join()  # it still has to remove the folder; it ends this process
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
