"""From the numbers of many steps and ranks to lines that can be drawn: minima and maxima are never lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

UNITS = {
    "training_loss": "", "throughput_tokens_sec": "tokens/s", "learning_rate": "", "gradient_norm": "",
    "gpu_util": "%", "gpu_mem_used_gb": "GB", "step_time_s": "s", "epoch": "", "total_steps": "steps",
}  # fmt: skip
"""Units of the numbers UGRO knows; a name that ends in one of `_SUFFIXES` tells its own."""

_SUFFIXES = {
    "_s": "s", "_ms": "ms", "_gb": "GB", "_mb": "MB", "_mb_s": "MB/s", "_percent": "%", "_w": "W", "_c": "°C",
    "_mhz": "MHz", "_kwh": "kWh", "_bytes": "bytes",
}  # fmt: skip
# No chart has more numbers than this in all: with many ranks each line has fewer points.
_MOST_POINTS = 200_000


def unit_of(column: str) -> str:
    """Return the unit of a column: "tokens/s", "GB"; empty where there is none or it is not known."""
    if column in UNITS:
        return UNITS[column]
    fitting = [suffix for suffix in _SUFFIXES if column.endswith(suffix)]
    return _SUFFIXES[max(fitting, key=len)] if fitting else ""


@dataclass(frozen=True)
class Told:
    """A number per step and rank. All arrays are as long; sorted by step, then by rank, each pair once."""

    attempt: Array
    rank: Array
    step: Array
    time: Array
    value: Array

    @classmethod
    def newest(cls, attempt: Array, rank: Array, step: Array, time: Array, value: Array) -> Told:
        """Return, of lines in any order, what counts.

        An attempt counts from the first step on at which it told the number, and none before it from there on: what
        those told is work that was done again, or a way that this one did not take. Of a rank that tells a step twice,
        what it told last counts.
        """
        import numpy as np

        if not len(step):
            return cls(attempt, rank, step, time, value)
        numbers, place = _numbered(step)
        if attempt.min() != attempt.max():
            newest = np.zeros(len(numbers), attempt.dtype)
            for number in np.unique(attempt):  # in order
                newest[int(place[attempt == number].min()) :] = number
            keep = attempt == newest[place]
            attempt, rank, step, time, value, place = (
                values[keep] for values in (attempt, rank, step, time, value, place)
            )
        ranks, column = _numbered(rank)
        cells = len(numbers) * len(ranks)
        small = cells <= 8 * len(step) + (1 << 20)
        # Half as many bytes count: all of this is memory that is moved.
        kind = np.int32 if small and cells < 1 << 31 else np.int64
        key: Array = place.astype(kind) * len(ranks) + column.astype(kind)
        if (key[1:] > key[:-1]).all():
            return cls(attempt, rank, step, time, value)
        if small:
            last: Array = np.full(cells, -1, kind)
            last[key] = np.arange(len(key), dtype=kind)  # of an index that comes twice, the last one stays
            order = last[last >= 0]
            if len(order) == cells and attempt.min() == attempt.max():
                full = (np.tile(ranks, len(numbers)), np.repeat(numbers, len(ranks)))
                return cls(np.full(cells, attempt[0]), *full, time[order], value[order])
        else:
            sort = np.argsort(key, kind="stable")
            order = sort[np.append(key[sort][1:] != key[sort][:-1], True)]
        return cls(attempt[order], rank[order], step[order], time[order], value[order])

    def __len__(self) -> int:
        return len(self.step)

    def by_rank(self, over: Array) -> dict[int, tuple[Array, Array]]:
        """Return what each rank told, as (its part of `over`, its values); the ranks in order."""
        import numpy as np

        if not len(self):
            return {}
        numbers, place = _numbered(self.rank)
        # NumPy sorts whole numbers of 16 bits in one pass, and others not.
        order = np.argsort(place.astype(np.uint16) if len(numbers) < 1 << 16 else place, kind="stable")
        counts = np.bincount(place, minlength=len(numbers))
        ends = np.cumsum(counts)
        over, values = over[order], self.value[order]
        parts = zip(numbers.tolist(), (ends - counts).tolist(), ends.tolist(), strict=True)
        return {int(rank): (over[begin:end], values[begin:end]) for rank, begin, end in parts if end > begin}

    def mean(self) -> tuple[Array, Array, Array]:
        """Return steps, times and means over the ranks that told each; NaN where one of these is no finite number."""
        import numpy as np

        if not len(self):
            return self.step, self.time, self.value
        begins = np.flatnonzero(np.append(True, self.step[1:] != self.step[:-1]))
        counts = np.diff(np.append(begins, len(self)))
        finite = np.where(np.isfinite(self.value), self.value, np.nan)
        steps = self.step[begins]
        if len(begins) == len(self):
            return steps, self.time, finite
        return steps, np.add.reduceat(self.time, begins) / counts, _means(finite, begins, counts)


@dataclass(frozen=True)
class Line:
    """One line of a chart: the mean, the lowest and the highest value of the points that fall together at x."""

    name: str
    x: Array
    y: Array
    low: Array
    high: Array

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; null where there is no number."""
        return {
            "name": self.name, "x": _plain(self.x), "y": _plain(self.y), "min": _plain(self.low),
            "max": _plain(self.high),
        }  # fmt: skip


@dataclass(frozen=True)
class Chart:
    """A number over steps or time.

    Attributes:
        lines: the mean of the ranks, or a line per rank.
        points: how many numbers were told in all.
        attempts: where each attempt begins to count, as (attempt, x).
    """

    column: str
    unit: str
    by: str
    lines: tuple[Line, ...] = ()
    points: int = 0
    attempts: tuple[tuple[int, float], ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Return the chart as JSON values."""
        return {
            "column": self.column,
            "unit": self.unit,
            "by": self.by,
            "lines": [line.to_json() for line in self.lines],
            "points": self.points,
            "attempts": [{"attempt": attempt, "x": x} for attempt, x in self.attempts],
        }


def chart(
    told: Told, column: str, *, by: Literal["step", "time"], ranks: str | Sequence[int], points: int, smooth: float
) -> Chart:
    """Return the chart of what was told; see `series.Series.chart`."""
    import numpy as np

    x = told.step if by == "step" else told.time
    if ranks == "mean":
        step, time, value = told.mean()
        found = [("mean", step if by == "step" else time, value)]
    else:
        wanted = None if isinstance(ranks, str) else set(ranks)
        of_ranks = told.by_rank(x).items()
        found = [(f"rank {rank}", *told_by) for rank, told_by in of_ranks if wanted is None or rank in wanted]
    points = max(2, min(points, _MOST_POINTS // max(1, len(found))))
    begins = []
    alone = len(told) > 0 and told.attempt.min() == told.attempt.max()
    for attempt in told.attempt[:1] if alone else np.unique(told.attempt):
        of_attempt = x[told.attempt == attempt]
        if np.isfinite(of_attempt).any():
            begins.append((int(attempt), _number(np.nanmin(of_attempt))))
    lines = tuple(thinned(name, x, y, points, smooth) for name, x, y in found if len(x))
    return Chart(column, unit_of(column), by, lines, len(told), tuple(begins))


def thinned(name: str, x: Array, y: Array, points: int, smooth: float = 0.0) -> Line:
    """Return a line of at most `points` points, one at an x; each has the mean and the extremes of what it stands for.

    Args:
        x: what it is drawn over; points without one are left out, and the rest put in order.
        y: the values; what is not finite is a gap, unless finite ones fall together with it.
        smooth: 0 to less than 1; the mean only, extremes are shown as they are.
    """
    import numpy as np

    known = np.isfinite(x)
    if not known.all():
        x, y = x[known], y[known]
    apart = np.diff(x)
    if (apart < 0).any():
        order = np.argsort(x, kind="stable")
        x, y = x[order], y[order]
        apart = np.diff(x)
    y = np.where(np.isfinite(y), y, np.nan)
    low = high = y
    # Steps of one second are one point along time, or the line would be a saw of vertical strokes.
    alone = bool(apart.all())
    if not alone or len(x) > points:
        begins = np.arange(len(x)) if alone else np.flatnonzero(np.append(True, apart != 0))
        if len(begins) > points:
            begins = begins[np.linspace(0, len(begins), points, endpoint=False).astype(np.int64)]
        counts = np.add.reduceat(np.isfinite(y).astype(np.int64), begins)
        mean = _means(np.nan_to_num(y), begins, counts)
        low, high = np.fmin.reduceat(y, begins), np.fmax.reduceat(y, begins)
        middles = (begins + np.append(begins[1:], len(x)) - 1) // 2
        middles[0], middles[-1] = 0, len(x) - 1  # the line begins and ends where the run does
        x, y = x[middles], mean
    return Line(name, x, _smoothed(y, smooth) if smooth > 0 else y, low, high)


def _smoothed(y: Array, weight: float) -> Array:
    """Return the moving average that TensorBoard shows: the past counts `weight`, without a bias at the start."""
    import numpy as np

    weight = min(weight, 0.9999)
    last, debias, found = 0.0, 0.0, np.full(len(y), np.nan)
    for index, value in enumerate(y.tolist()):
        if value == value:
            last = last * weight + (1 - weight) * value
            debias = debias * weight + (1 - weight)
            found[index] = last / debias
    return found


def _means(values: Array, begins: Array, counts: Array) -> Array:
    """Return the mean of each part of `values`, which has as many numbers as `counts` says; others in it are 0."""
    import numpy as np

    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        means: Array = np.add.reduceat(values, begins) / counts
        if not np.isfinite(means).all():  # of numbers near 1.8e308 no number is the sum, but one is the mean
            shares = values / np.repeat(counts, np.diff(np.append(begins, len(values))))
            most = np.finfo(np.float64).max
            means = np.where(np.isfinite(means), means, np.clip(np.add.reduceat(shares, begins), -most, most))
    return means


def _numbered(values: Array) -> tuple[Array, Array]:
    """Return the distinct values in order, or the range they span where that is hardly more, and each one's place."""
    import numpy as np

    low, high = int(values.min()), int(values.max())
    if high - low < 2 * len(values) + 1024:
        return np.arange(low, high + 1), values - low
    distinct, place = np.unique(values, return_inverse=True)
    return distinct, place


def _plain(values: Array) -> list[float | int | None]:
    import numpy as np

    if np.issubdtype(values.dtype, np.integer):
        return list(values.tolist())
    return [value if value == value and abs(value) != float("inf") else None for value in values.tolist()]


def _number(value: Any) -> float | int:
    return int(value) if float(value).is_integer() else float(value)
