"""`ugro plot`: curves of jobs as a picture (matplotlib), or as a page that needs nothing else (`report_html`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ugro_py import series
from ugro_py.errors import NotFoundError, UsageError
from ugro_py.report_doors import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ugro_py.series_chart import Told

KINDS = ("png", "svg", "html")
COLUMNS_AT_MOST = 12
# Colours that people with any kind of colour vision can tell apart (Okabe and Ito), without its yellow.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#555555", "#8c510a")
LABELS = {
    "training_loss": "training loss", "throughput_tokens_sec": "throughput", "learning_rate": "learning rate",
    "gradient_norm": "gradient norm", "gpu_util": "GPU utilisation", "gpu_mem_used_gb": "GPU memory",
}  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """One line: its name, and x, mean, least and greatest value of each of its points; None where there is none.

    `first` and `last` are the first and the last number there was, before points were put together or smoothed.
    """

    name: str
    first: float
    last: float
    x: list[float | None]
    y: list[float | None]
    low: list[float | None]
    high: list[float | None]


@dataclass(frozen=True)
class Panel:
    """One chart: a column of all jobs."""

    column: str
    unit: str
    curves: tuple[Curve, ...]

    @property
    def label(self) -> str:
        """What its y axis is called."""
        name = LABELS.get(self.column, self.column)
        return f"{name} ({self.unit})" if self.unit else name


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
        UsageError: there is something at `target`, or matplotlib is not installed.
        StateError: it cannot be written.
    """
    kind = kind_of(target)
    found = panels(jobs, columns, looks)
    with replacing(target, force) as part:
        if kind == "html":
            from ugro_py import report_html

            part.write_text(report_html.page(jobs, found, looks), encoding="utf-8")
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
    found = []
    for column in columns:
        curves: list[Curve] = []
        unit = ""
        for job, one in opened.items():
            if column not in one.columns:
                continue
            chart = one.chart(
                column, by=looks.by, ranks="each" if looks.each_rank else "mean", points=looks.points,
                smooth=looks.smooth,
            ).to_json()  # fmt: skip
            unit = chart["unit"]
            for line in chart["lines"]:
                ends = _ends(one.told(column), line["name"])
                if ends is not None:
                    curves.append(_curve(job, line, ends, looks, len(jobs) > 1))
        if not curves:
            known = sorted({name for one in opened.values() for name in one.columns if _has_numbers(one, name)})
            raise NotFoundError(
                f"plot {column[:80]!r}", "none of the jobs tells it", f"they tell {', '.join(known) or 'no metric'}"
            )
        found.append(Panel(column, unit, tuple(curves)))
    return found


def _has_numbers(one: series.Series, column: str) -> bool:
    return len(one.told(column)) > 0


def _ends(told: Told, name: str) -> tuple[float, float] | None:
    """Return the first and the last number of a line, None where it has none."""
    import numpy as np

    values = told.mean()[2] if name == "mean" else told.value[told.rank == int(name.removeprefix("rank "))]
    known = values[np.isfinite(values)]
    return (float(known[0]), float(known[-1])) if len(known) else None


def _curve(job: str, line: dict[str, Any], ends: tuple[float, float], looks: Looks, several: bool) -> Curve:
    name = job if not looks.each_rank else f"{job} {line['name']}" if several else line["name"]
    x = line["x"]
    if looks.by == "time":
        start = next((value for value in x if value is not None), 0.0)
        x = [None if value is None else (value - start) / 3600 for value in x]
    return Curve(name, *ends, x, line["y"], line["min"], line["max"])


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
    for place, curve in enumerate(panel.curves):
        colour = COLOURS[place % len(COLOURS)]
        x, y, low, high = (_floats(values) for values in (curve.x, curve.y, curve.low, curve.high))
        if low != y or high != y:
            axis.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
        style = ("-", "--", ":", "-.")[place // len(COLOURS) % 4]
        axis.plot(x, y, style, color=colour, linewidth=1.5, label=curve.name, marker="o" if len(x) == 1 else None)
    axis.set_ylabel(panel.label)
    if looks.log:
        axis.set_yscale("log", nonpositive="mask")
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize="small", frameon=False, ncols=1 + len(panel.curves) // 12)


def _floats(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]
