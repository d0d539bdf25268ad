"""What the lines of `metrics.jsonl` say of a job as a whole: its loss curve, its throughput, means of readings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, overload

from ugro_py.series.arrays import mean_of, numbers

if TYPE_CHECKING:
    import numpy as np

    from ugro_py.series import Series


@dataclass(frozen=True)
class LossPoint:
    """The training loss at one step, averaged over the ranks that reported it."""

    step: int
    loss: float


class Curve(Sequence[LossPoint]):
    """The loss per step, in order of steps. A point is made when it is asked for: there may be a million."""

    def __init__(self, steps: np.ndarray[Any, Any], losses: np.ndarray[Any, Any]) -> None:
        self._steps, self._losses = steps, losses

    def __len__(self) -> int:
        return len(self._steps)

    @overload
    def __getitem__(self, index: int) -> LossPoint: ...
    @overload
    def __getitem__(self, index: slice) -> Curve: ...
    def __getitem__(self, index: int | slice) -> LossPoint | Curve:
        if isinstance(index, slice):
            return Curve(self._steps[index], self._losses[index])
        return LossPoint(int(self._steps[index]), float(self._losses[index]))

    def __iter__(self) -> Iterator[LossPoint]:
        return map(LossPoint, self._steps.tolist(), self._losses.tolist())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"<Curve of {len(self)} points>"

    def best(self) -> LossPoint | None:
        """Return the first of the points with the lowest loss; None without any."""
        return self[int(self._losses.argmin())] if len(self) else None

    def thin(self, points: int) -> Curve:
        """Return hardly more than `points` of its points: the lowest and the highest of each part, and both ends."""
        import numpy as np

        if len(self) <= points:
            return self
        cuts = np.linspace(0, len(self), max(1, points // 2) + 1).astype(np.int64)
        parts = [(a, self._losses[a:b]) for a, b in pairwise(cuts.tolist()) if b > a]
        chosen = {0, len(self) - 1}
        chosen.update(index for a, part in parts for index in (a + int(part.argmin()), a + int(part.argmax())))
        kept = np.array(sorted(chosen))
        return Curve(self._steps[kept], self._losses[kept])


def thin(curve: Sequence[LossPoint], points: int = 2000) -> Sequence[LossPoint]:
    """Return hardly more than `points` points of a curve, which look the same when they are drawn."""
    return curve.thin(points) if isinstance(curve, Curve) else curve


class Lines:
    """The figures of all lines. Where attempts overlap after a resume, the newest one counts."""

    def __init__(self, series: Series) -> None:
        self._series = series

    @cached_property
    def _loss(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        steps, _, losses = self._series.told("training_loss").mean()
        return steps, losses

    def curve(self) -> Curve:
        """The loss per step, averaged over ranks; steps with a loss that is no number are left out."""
        import numpy as np

        steps, losses = self._loss
        finite = np.isfinite(losses)
        return Curve(steps[finite], losses[finite])

    def nonfinite_steps(self) -> int:
        """How many steps have a loss that is no finite number."""
        import numpy as np

        return int((~np.isfinite(self._loss[1])).sum())

    def nonfinite_since(self) -> int | None:
        """The step from which on no loss is a finite number, up to the newest; None where the newest is one."""
        import numpy as np

        steps, losses = self._loss
        finite = np.flatnonzero(np.isfinite(losses))
        first = int(finite[-1]) + 1 if len(finite) else 0
        return int(steps[first]) if first < len(steps) else None

    def throughput(self) -> float | None:
        """Tokens/s of the newest attempt that tells any. The median leaves out the slow first steps."""
        import numpy as np

        told = self._series.table(["throughput_tokens_sec"])
        attempt, rank = numbers(told["attempt"]), numbers(told["rank"])
        rate = numbers(told["throughput_tokens_sec"], missing=np.nan)
        known = np.isfinite(rate)
        if not known.any():
            return None
        known &= attempt == attempt[known].max()
        rank, rate = rank[known], rate[known]
        # NumPy sorts whole numbers of 16 bits in one pass, and others not.
        order = np.argsort(rank.astype(np.uint16) if rank.max() < 1 << 16 else rank, kind="stable")
        begins = np.flatnonzero(np.diff(rank[order])) + 1
        whole = float(sum(np.median(rates) for rates in np.split(rate[order], begins)))
        return whole if np.isfinite(whole) else None

    def mean(self, column: str) -> float | None:
        """The mean of a number over all lines that tell it."""
        import numpy as np

        values = numbers(self._series.table([column])[column], missing=np.nan)
        return mean_of(values[np.isfinite(values)])
