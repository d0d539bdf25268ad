# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""CPU limits of lab hosts by cgroup, version 1 or 2."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PERIOD_US = 20_000


def limit_cpu(machine: str, leader: int, percent: int | None) -> None:
    """Let all processes of the host whose init is `leader` use at most `percent` of one CPU together.

    Raises:
        RuntimeError: this machine's cgroups offer no CPU controller.
    """
    quota = -1 if percent is None else PERIOD_US * percent // 100
    if (ROOT / "cpu" / "cpu.cfs_quota_us").exists() or (ROOT / "cpu" / "tasks").exists():
        group = ROOT / "cpu" / f"ugro-{machine}"
        group.mkdir(exist_ok=True)
        (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
        (group / "cpu.cfs_quota_us").write_text(str(quota))
        _move_all(group, leader)
        return
    group = _unified(leader)
    if not (group / "cpu.max").exists():
        raise RuntimeError(f"no CPU controller in {group}")
    (group / "cpu.max").write_text(f"{'max' if percent is None else quota} {PERIOD_US}")


def remove(machine: str) -> None:
    """Remove the host's cgroup of version 1, empty once the host is off."""
    with contextlib.suppress(OSError):
        (ROOT / "cpu" / f"ugro-{machine}").rmdir()


def _move_all(group: Path, leader: int) -> None:
    """Move every process of the host; repeat, since they fork meanwhile."""
    namespace = os.readlink(f"/proc/{leader}/ns/pid")
    moved = True
    while moved:
        moved = False
        present = set((group / "cgroup.procs").read_text().split())
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or entry.name in present:
                continue
            with contextlib.suppress(OSError):
                if os.readlink(entry / "ns" / "pid") == namespace:
                    (group / "cgroup.procs").write_text(entry.name)
                    moved = True


def _unified(leader: int) -> Path:
    """Return the cgroup (version 2) that holds the whole host: the parent of nspawn's `payload`."""
    for line in Path(f"/proc/{leader}/cgroup").read_text().splitlines():
        if line.startswith("0::"):
            path = Path(line[3:].lstrip("/"))
            for parent in (path, *path.parents):
                if parent.name == "payload":
                    return ROOT / parent.parent
            return ROOT / path
    raise RuntimeError("this machine has no cgroup of version 2")
