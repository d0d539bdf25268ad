"""The health sweep of 30 hosts against a multiplexed `ssh HOST python3 -c ...` to each, all at once.

The sweep is the agent's: sessions are kept, each host reads itself, and what they say is judged and compared. The work
by hand finds its connections open too; it reads nothing and compares nothing.
"""

from __future__ import annotations

import asyncio
import time

from benchmarks.bed import Bed, bed
from benchmarks.measure import Result, paired
from ugro_py.health.sweeper import Sweeper
from ugro_py.state import Store

NAME = "health_sweep_30_hosts"
LIMIT = 1.5
HOSTS = 30


def measure(_bed: Bed, n: int = 9) -> Result:
    """Measure `n` pairs on a lab of its own."""
    with bed(HOSTS) as many:
        program = {node.name: [node.python, "-c", "print('ok')"] for node in many.nodes}
        with asyncio.Runner() as runner, Store.open() as store:
            sweeper = Sweeper(many.cluster, store)

            def ours(_number: int) -> float:
                begun = time.perf_counter()
                found = runner.run(sweeper.sweep())
                took = time.perf_counter() - begun
                lost = [name for name, health in found.items() if health.state not in ("healthy", "degraded")]
                if lost:
                    raise RuntimeError(f"not reached: {', '.join(lost)}")
                return took

            def hand(_number: int) -> float:
                begun = time.perf_counter()
                many.by_hand(program)
                return time.perf_counter() - begun

            try:
                return Result(NAME, "s", *paired(n, ours, hand), limit=LIMIT)
            finally:
                runner.run(sweeper.close())
