"""`ugro plot`: curves of jobs as a picture (matplotlib), or as a page that needs nothing else (`reports.html`)."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ugro_py import series
from ugro_py.errors import NotFoundError, UsageError
from ugro_py.reports.doors import replacing
from ugro_py.series.chart import chart, unit_of
from ugro_py.series.named import some_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ugro_py.series.chart import Told

KINDS = ("png", "svg", "html")
COLUMNS_AT_MOST = 12
HTML_CURVES_AT_MOST = 200
"""In one chart of a page: a browser draws three lines for each."""
_POINTS_IN_ALL = 400_000
_NAMED = 24  # curves that a legend still helps to tell apart
# No axis has ticks for greater numbers, nor can what lies between two of 1e308 be told in a double.
_HUGE = 1e30
# Colours that people with any kind of colour vision can tell apart (Okabe and Ito), without its yellow.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#555555", "#8c510a")
LABELS = {
    "training_loss": "training loss", "throughput_tokens_sec": "throughput of a rank", "learning_rate": "learning rate",
    "gradient_norm": "gradient norm", "gpu_util": "GPU utilisation", "gpu_mem_used_gb": "GPU memory",
}  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """One line: its name, and x, mean, least and greatest value of each of its points; None where there is none.

    `first` and `last` are the first and the last number there was, before points were put together or smoothed.
    `place` is that of its name among all names of the plot, which looks the same in each of its charts.
    """

    name: str
    place: int
    first: float
    last: float
    x: list[float | None]
    y: list[float | None]
    low: list[float | None]
    high: list[float | None]


@dataclass(frozen=True)
class Panel:
    """One chart: a column of all jobs. Its numbers are in units of 1e`exponent`."""

    column: str
    unit: str
    curves: tuple[Curve, ...]
    exponent: int = 0

    @property
    def label(self) -> str:
        """What its y axis is called."""
        name = LABELS.get(self.column, self.column)
        units = [word for word in (self.unit, f"1e{self.exponent}" if self.exponent else "") if word]
        return f"{name} ({', in units of '.join(units)})" if units else name


@dataclass(frozen=True)
class Looks:
    """How it is drawn: over steps or hours since the first step, on which axis, how smooth, per rank or not."""

    by: Literal["step", "time"] = "step"
    log: bool = False
    smooth: float = 0.0
    each_rank: bool = False
    points: int = 2000

    @property
    def x_label(self) -> str:
        """What the x axis is called."""
        return "step" if self.by == "step" else "hours since the first step"


def kind_of(target: Path) -> str:
    """Return png, svg or html, by the name of the target.

    Raises:
        UsageError: it ends otherwise.
    """
    kind = target.suffix.removeprefix(".").lower()
    if kind not in KINDS:
        raise UsageError(f"plot to {target}", "its name tells no format", "end it in .png, .svg or .html")
    return kind


def write(jobs: Sequence[str], columns: Sequence[str], target: Path, looks: Looks, force: bool = False) -> int:
    """Draw columns of the metrics of jobs, which are in the central store, and return how many lines were drawn.

    Raises:
        NotFoundError: no job has such a column.
        UsageError: there is something at `target`, matplotlib is not installed, or a page would have too many curves.
        StateError: it cannot be written.
    """
    kind = kind_of(target)
    found = panels(jobs, columns, looks)
    most = max(len(panel.curves) for panel in found)
    if kind == "html" and most > HTML_CURVES_AT_MOST:
        advice = "name fewer jobs, leave --ranks out, or write a .png"
        raise UsageError(f"plot {most:,} curves to {target}", f"a page has {HTML_CURVES_AT_MOST} at most", advice)
    with replacing(target, force) as part:
        if kind == "html":
            from ugro_py.reports import html

            part.write_text(html.page(jobs, found, looks), encoding="utf-8")
        else:
            _draw(found, looks, part, kind)
    return sum(len(panel.curves) for panel in found)


def panels(jobs: Sequence[str], columns: Sequence[str], looks: Looks) -> list[Panel]:
    """Return a chart for each column, with a line for each job that has it (and rank, if that is asked for).

    Raises:
        NotFoundError: no job has such a column.
        UsageError: there are too many.
    """
    if len(columns) > COLUMNS_AT_MOST:
        raise UsageError(f"plot {len(columns)} metrics", f"{COLUMNS_AT_MOST} at most", "make two plots")
    opened = {job: series.open_job(job) for job in jobs}
    points = max(2, min(looks.points, _POINTS_IN_ALL // len(jobs)))
    found = []
    places: dict[str, int] = {}
    for column in columns:
        curves: list[Curve] = []
        for job, one in opened.items():
            if column not in one.columns:
                continue
            told = one.told(column)
            ranks = "each" if looks.each_rank else "mean"
            drawn = chart(told, column, by=looks.by, ranks=ranks, points=points, smooth=looks.smooth).to_json()
            ends = _ends(told, looks.each_rank)
            lines = [line for line in drawn["lines"] if line["name"] in ends]
            curves += [_curve(job, line, ends[line["name"]], looks, places) for line in lines]
        if not curves:
            raise _missing(column, opened.values())
        found.append(_scaled(column, curves))
    return found


def _missing(column: str, opened: Collection[series.Series]) -> NotFoundError:
    """Return the error for a column that nobody tells."""
    import numpy as np

    def has_numbers(one: series.Series, name: str) -> bool:
        return bool(np.isfinite(one.told(name).value).any())

    known = sorted({name for one in opened for name in one.columns if has_numbers(one, name)})
    told = any(column in one.columns and len(one.told(column)) for one in opened)
    came_back = "no value of it is a finite number" if told else "none of the jobs tells it"
    return NotFoundError(f"plot {column[:80]!r}", came_back, f"they tell {some_of(known, column) or 'no number'}")


def _scaled(column: str, curves: Sequence[Curve]) -> Panel:
    """Return the chart of curves, huge numbers in units that can be drawn."""
    values = (
        abs(value) for one in curves for part in (one.y, one.low, one.high) for value in part if value is not None
    )
    most = max(values, default=0.0)
    if most < _HUGE:
        return Panel(column, unit_of(column), tuple(curves))
    exponent = math.floor(math.log10(most))
    size = float(f"1e{exponent}")

    def smaller(values: Sequence[float | None]) -> list[float | None]:
        return [None if value is None else value / size for value in values]

    scaled = [
        replace(
            one,
            first=one.first / size,
            last=one.last / size,
            y=smaller(one.y),
            low=smaller(one.low),
            high=smaller(one.high),
        )
        for one in curves
    ]
    return Panel(column, unit_of(column), tuple(scaled), exponent)


def _ends(told: Told, each_rank: bool) -> dict[str, tuple[float, float]]:
    """Return the first and the last number of each line by its name; of one that has none, nothing."""
    import numpy as np

    found = {}
    lines = {f"rank {rank}": values for rank, (_, values) in told.by_rank(told.step).items()}
    for name, values in (lines if each_rank else {"mean": told.mean()[2]}).items():
        known = values[np.isfinite(values)]
        if len(known):
            found[name] = (float(known[0]), float(known[-1]))
    return found


def _curve(job: str, line: dict[str, Any], ends: tuple[float, float], looks: Looks, places: dict[str, int]) -> Curve:
    name = f"{job} {line['name']}" if looks.each_rank else job
    x = line["x"]
    if looks.by == "time":
        start = next((value for value in x if value is not None), 0.0)
        x = [None if value is None else (value - start) / 3600 for value in x]
    return Curve(name, places.setdefault(name, len(places)), *ends, x, line["y"], line["min"], line["max"])


def _draw(found: Sequence[Panel], looks: Looks, part: Path, kind: str) -> None:
    """Draw with matplotlib, without a display and without its global state."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        advice = "run `pip install 'ugro[plots]'`, or plot to .html"
        raise UsageError(f"plot to .{kind}", "matplotlib is not installed", advice) from error
    # Names are text, not formulas; letters of an SVG stay letters, and the same data give the same file.
    with rc_context({"text.parse_math": False, "svg.fonttype": "none", "svg.hashsalt": "ugro"}):
        figure = Figure(figsize=(9, 0.6 + 3.6 * len(found)), layout="constrained")
        axes = figure.subplots(len(found), 1, sharex=True, squeeze=False)[:, 0]
        for axis, panel in zip(axes, found, strict=True):
            _draw_panel(axis, panel, looks)
        axes[-1].set_xlabel(looks.x_label)
        metadata = {"Date": None} if kind == "svg" else None
        figure.savefig(part, format=kind, dpi=150, metadata=metadata)


def _draw_panel(axis: Axes, panel: Panel, looks: Looks) -> None:
    for curve in panel.curves:
        colour = COLOURS[curve.place % len(COLOURS)]
        x, y, low, high = (_floats(values) for values in (curve.x, curve.y, curve.low, curve.high))
        if low != y or high != y:
            axis.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
        style = ("-", "--", ":", "-.")[curve.place // len(COLOURS) % 4]
        alone = sum(value is not None for value in curve.y) == 1
        axis.plot(x, y, style, color=colour, linewidth=1.5, label=curve.name, marker="o" if alone else None)
    axis.set_ylabel(panel.label)
    if looks.log and any(value is not None and value > 0 for curve in panel.curves for value in curve.high):
        _logarithmic(axis)
    elif looks.log:
        axis.set_title("nothing here is greater than 0: no logarithmic axis", fontsize="small")
    axis.grid(alpha=0.3, which="both")
    axis.spines[["top", "right"]].set_visible(False)
    if len(panel.curves) <= _NAMED:
        axis.legend(fontsize="small", frameon=False, ncols=1 + len(panel.curves) // 12)
    else:
        axis.set_title(f"{len(panel.curves):,} curves", fontsize="small")


def _logarithmic(axis: Axes) -> None:
    """Give it ticks in plain numbers: matplotlib's own for this scale are formulas, which are not read here."""
    from matplotlib.ticker import LogFormatter

    class Plain(LogFormatter):
        def __call__(self, x: float, pos: int | None = None) -> str:
            return f"{x:.6g}" if super().__call__(x, pos) else ""

    axis.set_yscale("log", nonpositive="mask")
    axis.yaxis.set_major_formatter(Plain(labelOnlyBase=False))
    axis.yaxis.set_minor_formatter(Plain(labelOnlyBase=False))


def _floats(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]
