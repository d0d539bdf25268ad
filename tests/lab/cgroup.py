# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A cgroup of its own for every lab host, and CPU limits; cgroups of version 1 or 2."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PERIOD_US = 20_000


def create(machine: str) -> list[Path]:
    """Make the cgroup that is to be the root of a host's units, and return the files that take its processes.

    In one cgroup two hosts' units of one name would be one group to the kernel: it ends when both are done, and the
    host that is done first removes it under the other.
    """
    groups = [tree / f"ugro-{machine}" for tree in _unit_trees()]
    for group in groups:
        _remove_tree(group)
        group.mkdir()
    return [group / "cgroup.procs" for group in groups]


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
    """Remove the host's cgroups, empty once the host is off."""
    for tree in (ROOT / "cpu", *_unit_trees()):
        _remove_tree(tree / f"ugro-{machine}")


def _unit_trees() -> list[Path]:
    """Return the mounted hierarchies in which systemd keeps its units."""
    both = [ROOT / "systemd", ROOT / "unified"]
    return [tree for tree in both if (tree / "cgroup.procs").exists()] or [ROOT]


def _remove_tree(group: Path) -> None:
    """Remove a cgroup and those in it; one that still has processes stays."""
    for folder, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            Path(folder).rmdir()


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
