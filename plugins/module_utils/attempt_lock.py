# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""The lock of an attempt on a node, taken once and kept for good: by its supervisor, or by a stop that came first."""

from __future__ import annotations

import os


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
