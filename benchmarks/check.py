"""`ugro check` on every host against a multiplexed `ssh HOST python3 -c ...` to each, all at once.

Both sides find their SSH connections open, in the same control sockets. The work by hand reads nothing and compares
nothing: it is the floor of anything that runs Python on every host.
"""

from __future__ import annotations

import time

from benchmarks.bed import Bed
from benchmarks.measure import Result, paired

NAME = "check_3_hosts"
LIMIT = 5.0


def measure(bed: Bed, n: int = 15) -> Result:
    """Measure `n` pairs."""
    program = {node.name: [node.python, "-c", "print('ok')"] for node in bed.nodes}

    def ours(_number: int) -> float:
        begun = time.perf_counter()
        bed.ugro("check")
        return time.perf_counter() - begun

    def hand(_number: int) -> float:
        begun = time.perf_counter()
        bed.by_hand(program)
        return time.perf_counter() - begun

    return Result(NAME, "s", *paired(n, ours, hand), limit=LIMIT)
