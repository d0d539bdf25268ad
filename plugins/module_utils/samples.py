# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""How busy the machine is while a job runs: CPU, memory, network, disks and the job's GPUs, at a steady pace."""

from __future__ import annotations

import time
from typing import Any, Dict, List, Optional, Sequence, Set

from . import gpu as gpu_module
from .traffic import Traffic

INTERVAL_S = 1.0
# So many readings in a row must lack a GPU until it is called lost.
LOST_AFTER = 3


def _cpu_times() -> List[int]:
    """Return the counters of the first line of /proc/stat, in ticks since boot."""
    with open("/proc/stat", encoding="ascii") as file:
        return [int(word) for word in file.readline().split()[1:9]]


def _memory_used_gb() -> float:
    """Return used memory (total minus available) in GB of 2**30 bytes."""
    sizes = {}
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            key, dummy, rest = line.partition(":")
            if key in ("MemTotal", "MemAvailable"):
                sizes[key] = int(rest.split()[0])
    return round((sizes["MemTotal"] - sizes["MemAvailable"]) / 2**20, 3)


class SystemSampler:
    """Reads the machine once every `INTERVAL_S` and remembers the newest reading of each GPU."""

    def __init__(self, uuids: Sequence[str], train_python: Optional[str] = None) -> None:
        self._uuids = {uuid for uuid in uuids if not uuid.startswith("CPU-")}
        # The system's Python, which runs this, seldom has nvidia-ml-py; the one that trains does.
        self._reader = gpu_module.Sampler(train_python=train_python) if self._uuids else None
        self._newest: Dict[str, Dict[str, Any]] = {}
        self._missed: Dict[str, int] = {}
        self._read_at = 0.0
        self._next = 0.0
        self._times = _cpu_times()
        self._traffic = Traffic()

    def gpu(self, uuid: str) -> Optional[Dict[str, Any]]:
        """Return the newest reading of a GPU, or None for a CPU slot or before the first one."""
        return self._newest.get(uuid)

    def due(self) -> Optional[Dict[str, Any]]:
        """Return a sample if it is time for one, else None."""
        now = time.monotonic()
        if now < self._next:
            return None
        self._next = now + INTERVAL_S
        times = _cpu_times()
        passed = [after - before for after, before in zip(times, self._times)]
        self._times = times
        total = sum(passed)
        gpus = [gpu for gpu in self._reader.read() if gpu["uuid"] in self._uuids] if self._reader else []
        self._newest.update({gpu["uuid"]: gpu for gpu in gpus})
        self._count_missed({gpu["uuid"] for gpu in gpus})
        return {
            # Fields 4 and 5 of /proc/stat are idle and iowait, see proc(5).
            "cpu_percent": round(100.0 * (total - passed[3] - passed[4]) / total, 1) if total else 0.0,
            "mem_used_gb": _memory_used_gb(),
            **self._traffic.read(),
            "gpus": gpus,
        }

    def _count_missed(self, seen: Set[str]) -> None:
        """Count fresh readings that lack a GPU that was there before; a driver slow to answer proves nothing."""
        if self._reader is None or self._reader.taken_at == self._read_at:
            return
        self._read_at = self._reader.taken_at
        for uuid in self._newest:
            self._missed[uuid] = 0 if uuid in seen else self._missed.get(uuid, 0) + 1

    def newly_lost(self) -> List[str]:
        """Return the GPUs that `LOST_AFTER` readings in a row have lacked by now; each is returned once."""
        lost = [uuid for uuid, count in self._missed.items() if count == LOST_AFTER]
        for uuid in lost:
            self._missed[uuid] += 1
        return lost
