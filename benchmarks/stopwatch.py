"""What it costs a step to tell where its time goes (train/stopwatch.py, four numbers in each line of metrics).

One process per rank trains on as it always does, and has its stopwatch every other few steps: what the machine does
meanwhile meets steps with and without it alike. Of each pair of blocks the ratio counts; the limit holds where the
whole 95 % interval of their median is below it.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bed import SCRIPTS, Bed, run
from benchmarks.measure import Result
from ugro_py.paths import train_dir

NAME = "stopwatch_cost"
LIMIT = 1.01
RANKS, STEPS = 2, 2
_ARGS = ("--max-steps", "1000000", "--log-every", "1000000")


@dataclass(frozen=True)
class Blocks(Result):
    """Steps with the stopwatch (`ours`) and without it (`hand`), pair by pair."""

    @property
    def ratio(self) -> float:
        return statistics.median(self.pair_ratios)

    @property
    def spread(self) -> tuple[float, float]:
        """The 95 % interval of the median: by the signs alone, whatever the ratios are distributed like."""
        ratios = self.pair_ratios
        reach = 0.98 * len(ratios) ** 0.5  # 1.96 deviations of a binomial distribution of n and 1/2
        low, high = int(len(ratios) / 2 - reach), int(len(ratios) / 2 + reach)
        return ratios[max(0, low)], ratios[min(len(ratios) - 1, high)]

    @property
    def held(self) -> bool:
        return self.limit is None or self.spread[1] <= self.limit


def measure(_: Bed | None, n: int = 600) -> list[Result]:
    """Return the time of a step, and the processor time of a step of all ranks, in ms, of `n` pairs of blocks."""
    with tempfile.TemporaryDirectory(prefix="ugro-bench-") as folder:
        settings = {
            "OMP_NUM_THREADS": "1",
            "UGRO_METRICS_FILE": str(Path(folder) / "metrics.jsonl"),
            "UGRO_CHECKPOINT_DIR": str(Path(folder) / "checkpoints"),
        }
        launcher = ["env", *(f"{name}={value}" for name, value in settings.items()), sys.executable]
        launcher += ["-m", "torch.distributed.run", "--nproc-per-node", str(RANKS)]
        words = [str(SCRIPTS / "stopwatch_off.py"), str(train_dir()), str(n), str(STEPS), *_ARGS]
        printed = run([*launcher, *words]).stdout
    found = json.loads(printed.strip().splitlines()[-1])
    sides = [[[1000 * block[place] for block in found[kind]] for kind in ("on", "off")] for place in (0, 1)]
    # On a busy machine a step takes now 50 ms and now 100; its processor time hardly changes.
    return [
        Blocks(NAME, "ms/step", *sides[0], limit=LIMIT),
        Blocks(f"{NAME}_cpu", "ms/step", *sides[1], limit=LIMIT),
    ]
