# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""How the tests are dealt over the workers of `pytest -n N`: file by file, those that take long first.

A file stays on one worker: its tests share hosts, an agent, a wheel. Most tests wait rather than compute, so that
there may be more workers than cores. Plain `pytest` is not touched.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

# What takes longest, in this order; files that are not named follow in the order of collection, the short ones late.
LONG = tuple(
    f"integration/test_{name}.py"
    for name in (
        "playbooks", "recovery", "waiting", "launch", "faults", "explain", "agent", "training", "drill", "takeover",
        "secrets", "health", "retry", "launch_by_agent", "hostile_nodes", "health_playbook", "playbook_input",
        "controller_faults", "cycles",
    )
)  # fmt: skip
# These share one agent, one lab and one browser: the whole folder is dealt as if it were one file.
FOLDER_AS_ONE = "browser/"
# What other tests could not bear beside them (the marker `alone`) comes when they are through.
LAST = ("integration/test_false_alarms.py",)


class ByFile(LoadScopeScheduling):
    """A worker that has nearly done its files gets the next one, which is the longest that is left."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        return FOLDER_AS_ONE if FOLDER_AS_ONE in file else file


def rank(item: pytest.Item) -> int:
    """Return the place of a test's file in the order of the whole run."""
    file = item.nodeid.split("::", 1)[0].removeprefix("tests/")
    if file in LONG:
        return LONG.index(file)
    if file.startswith(FOLDER_AS_ONE):
        return 0
    if file in LAST:
        return len(LONG) + 2
    return len(LONG) + (not file.startswith(("integration/", "chaos/")))


@contextmanager
def room(folder: Path, *, alone: bool) -> Iterator[None]:
    """Wait until a test may run beside those of the other workers, which have `folder` in common with this one."""
    with (folder / "alone.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)  # ends with the file
        yield
