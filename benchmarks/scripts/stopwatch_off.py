"""The training UGRO ships, its stopwatch taken out and put in again every few steps; run by torchrun.

    torchrun --nproc-per-node 2 stopwatch_off.py FOLDER PAIRS STEPS [option of train_production.py ...]

FOLDER is that of train_production.py. Rank 0 prints one JSON object: `on` and `off`, for each pair of blocks of STEPS
steps [seconds of a step, seconds of processor time of a step over all ranks]. All ranks begin and end a block together.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import nullcontext
from typing import Any, NamedTuple

WARM_UP = 5  # pairs


class Untimed(NamedTuple):
    """How long a step took, and nothing of where that went."""

    step: float

    def fields(self) -> dict[str, float]:
        return {}


class NoStopwatch:
    """What a step needs of a stopwatch, without one. It tells how long the step took, which any training does."""

    gradient_bytes = 0

    def begin(self) -> NoStopwatch:
        self.begun = time.perf_counter()
        return self

    def next(self, batches: Any) -> Any:
        return next(batches)

    def reduced(self) -> None:
        pass

    def waiting(self) -> Any:
        return nullcontext()

    def end(self) -> Any:
        return Untimed(time.perf_counter() - self.begun)

    def close(self) -> None:
        pass


def alternate(trainer: Any, pairs: int, steps: int) -> dict[str, list[list[float]]]:
    """Train on in blocks of `steps` steps, with the stopwatch and without, and return what each took."""
    import torch.distributed as dist
    from stopwatch import Stopwatch

    ranks, loaded = trainer.ranks, batches(trainer)
    found: dict[str, list[list[float]]] = {"on": [], "off": []}
    trainer.watch.close()
    for number in range(-WARM_UP, pairs):
        # on off off on on off …: what changes slowly in the machine meets both alike.
        for kind in ("on", "off") if number % 2 == 0 else ("off", "on"):
            trainer.watch = Stopwatch(trainer.model, trainer.device, ranks.world) if kind == "on" else NoStopwatch()
            dist.barrier()
            began, cpu = time.perf_counter(), time.process_time()
            for _ in range(steps):
                trainer._step(loaded)
            dist.barrier()
            took, used = time.perf_counter() - began, time.process_time() - cpu
            trainer.watch.close()
            if number >= 0:
                found[kind].append([took / steps, ranks.mean([used])[0] * ranks.world / steps])
    trainer.telemetry.close()
    return found


def batches(trainer: Any) -> Any:
    import data

    while True:
        yield from data.loader(trainer.blocks, trainer.batches.of_epoch(0, 0), 0, False)


def main() -> None:
    folder, pairs, steps, *rest = sys.argv[1:]
    sys.path.insert(0, folder)
    import options
    from ranks import Ranks
    from train_production import Trainer

    ranks = Ranks()
    found = alternate(Trainer(options.parse(rest, ""), ranks), int(pairs), int(steps))
    if ranks.is_main:
        print(json.dumps(found), flush=True)
    ranks.close(failed=False)


if __name__ == "__main__":
    main()
