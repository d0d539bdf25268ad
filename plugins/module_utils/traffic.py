# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What a machine sends, receives, reads and writes: rates from the kernel's counters. A MB is 10**6 bytes."""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False  # importing typing costs a node 3 ms
if TYPE_CHECKING:
    from typing import Dict, List, Optional, Tuple

_SECTOR = 512  # of /proc/diskstats, whatever the disk's own is
# Not disks, or disks that others are made of: what goes through them would be counted twice.
_NO_DISK = ("loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd", "drbd", "bcache")


def network_bytes(proc: str = "/proc", sys: str = "/sys") -> Optional[Tuple[int, int]]:
    """Return the bytes received and sent since boot, or None where the kernel does not tell.

    Network cards are counted; where there is none (a container), every interface but the loopback. Bridges, bonds and
    tunnels carry what goes through the cards too.
    """
    try:
        with open(os.path.join(proc, "net/dev"), encoding="ascii", errors="replace") as file:
            lines = file.read().splitlines()[2:]
        counters = {}
        for line in lines:
            name, dummy, rest = line.rpartition(":")
            words = rest.split()
            counters[name.strip()] = (int(words[0]), int(words[8]))
    except (OSError, ValueError, IndexError):
        return None
    counters.pop("lo", None)
    cards = [name for name in counters if os.path.exists(os.path.join(sys, "class/net", name, "device"))]
    return _sum([counters[name] for name in cards or counters])


def disk_bytes(proc: str = "/proc", sys: str = "/sys") -> Optional[Tuple[int, int]]:
    """Return the bytes read from and written to whole disks since boot, or None where the kernel does not tell."""
    try:
        disks = {name for name in os.listdir(os.path.join(sys, "block")) if not name.startswith(_NO_DISK)}
        with open(os.path.join(proc, "diskstats"), encoding="ascii", errors="replace") as file:
            rows = [line.split() for line in file]
        return _sum([(int(row[5]) * _SECTOR, int(row[9]) * _SECTOR) for row in rows if row[2] in disks])
    except (OSError, ValueError, IndexError):
        return None


def _sum(pairs: List[Tuple[int, int]]) -> Tuple[int, int]:
    return sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)


class Traffic:
    """Turns counters into rates: each `read` tells those since the one before."""

    _COUNTERS = (
        (("net_rx_mb_s", "net_tx_mb_s"), network_bytes),
        (("disk_read_mb_s", "disk_write_mb_s"), disk_bytes),
    )

    def __init__(self) -> None:
        self._before: Dict[Tuple[str, str], Optional[Tuple[int, int]]] = {}
        self._at = 0.0
        self.read()

    def read(self) -> Dict[str, Optional[float]]:
        """Return MB/s by name; None for what is not known, and where a counter went back (a card was taken out)."""
        now = time.monotonic()
        passed, self._at = now - self._at, now
        rates: Dict[str, Optional[float]] = {}
        for names, count in self._COUNTERS:
            counted = count()
            before, self._before[names] = self._before.get(names), counted
            for side, name in enumerate(names):
                rates[name] = None
                if counted and before and passed > 0 and counted[side] >= before[side]:
                    rates[name] = round((counted[side] - before[side]) / passed / 1e6, 3)
        return rates
