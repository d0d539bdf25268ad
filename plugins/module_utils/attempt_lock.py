# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""The lock of an attempt on a node, taken once and kept for good: by its supervisor, or by a stop that came first."""

from __future__ import annotations

import fcntl
import os
import time


def _path(attempt_dir: str) -> str:
    return os.path.join(attempt_dir, "supervisor.lock")


def take(attempt_dir: str) -> bool:
    """Take the lock for the supervisor; False where another one or a stop has it."""
    try:
        os.close(os.open(_path(attempt_dir), os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return False
    return True


def fence(attempt_dir: str) -> bool:
    """Take the lock for a stop, so that no supervisor comes up any more; False where one has it.

    It is a link then: that tells it from a supervisor's at once, and needs no room on a full disk.
    """
    try:
        os.symlink("stopped", _path(attempt_dir))
    except FileExistsError:
        return False
    return True


def is_fenced(attempt_dir: str) -> bool:
    """Say whether a stop has the lock."""
    return os.path.islink(_path(attempt_dir))


def starts(folder: str, timeout_s: float) -> int:
    """Return a lock on the starts of a job's attempts, to be closed: one at a time clears and fills their folders.

    The session of a controller that was killed may still be starting an attempt when the next controller comes with
    one of the same number. It is a lock on the job's folder itself, so that no file is left behind.

    Raises:
        OSError: another start lasts longer than `timeout_s`.
    """
    end = time.monotonic() + timeout_s
    while True:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        try:
            lock = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue  # removed just now, with the last of its attempts
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), os.stat(folder)):
                return lock
        except BlockingIOError:
            if time.monotonic() > end:
                os.close(lock)
                raise OSError("another start in %s lasts longer than %g s" % (folder, timeout_s)) from None
            time.sleep(0.02)
        except FileNotFoundError:
            pass
        os.close(lock)
