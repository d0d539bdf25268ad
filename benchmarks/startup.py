"""Start-up of the command line: `ugro --version` against a Python that does nothing; it must stay below 0.3 s."""

from __future__ import annotations

import sys
import time

from benchmarks.bed import Bed, run
from benchmarks.measure import Result, paired

NAME = "cli_startup"
LIMIT_S = 0.3


def measure(bed: Bed, n: int = 15) -> Result:
    """Measure `n` pairs."""

    def ours(_number: int) -> float:
        begun = time.perf_counter()
        bed.ugro("--version")
        return time.perf_counter() - begun

    def hand(_number: int) -> float:
        begun = time.perf_counter()
        run([sys.executable, "-c", "pass"])
        return time.perf_counter() - begun

    times, floor = paired(n, ours, hand)
    # The limit is one of seconds; as a ratio it depends on the machine's bare Python.
    return Result(NAME, "s", times, floor, limit=LIMIT_S / sorted(floor)[len(floor) // 2])
