"""The charts of an experiment in the form that pages draw: all of its metrics, those of its nodes, or one."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ugro_py.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from ugro_py.series import Series

By = Literal["step", "time"]
Ranks = Literal["mean", "each"]

TITLES = {
    "training_loss": "Training loss",
    "throughput_tokens_sec": "Throughput of a rank",  # the mean, or each: never the sum, which figures tell
    "learning_rate": "Learning rate",
    "gradient_norm": "Gradient norm",
    "gpu_util": "GPU utilisation",
    "gpu_mem_used_gb": "GPU memory",
    "step_time_s": "Whole step",
    "compute_time_s": "Computing",
    "data_time_s": "Waiting for data",
    "wait_time_s": "Waiting for other ranks and the network",
    "cpu_time_s": "Processor time of the rank",
    "cpu_percent": "CPU of the nodes",
    "mem_used_gb": "Memory of the nodes",
    "net_rx_mb_s": "Network, received",
    "net_tx_mb_s": "Network, sent",
    "disk_read_mb_s": "Disk, read",
    "disk_write_mb_s": "Disk, written",
    "temperature_c": "GPU temperature",
    "power_w": "GPU power",
    "clock_sm_mhz": "GPU clock",
    "throttle": "GPU held back (throttling), of the time",
}
_FIRST = tuple(TITLES)[:6]
TIMES = tuple(TITLES)[6:11]
"""Where the time of a step goes (docs/stragglers.md): charts of a section of their own."""
_COMPUTE, _STEP, _DATA, _WAIT = "compute_time_s", "step_time_s", "data_time_s", "wait_time_s"
_PER_RANK = ("gpu_util", "gpu_mem_used_gb")
# Of every line of metrics, but no curve that anybody wants to see.
_NO_CURVES = ("attempt", "rank", "step", "time", "total_steps", "epoch", "gradient_bytes")
_MOST = 24
"""So many charts are drawn unasked."""


@dataclass(frozen=True)
class Wanted:
    """How charts are to be drawn: along steps or time, ranks together or each, smoothed, with so many points.

    `more` are columns that are wanted though they are too many.
    """

    by: By = "step"
    ranks: Ranks = "mean"
    smooth: float = 0.0
    points: int = 800
    more: tuple[str, ...] = ()


def title_of(column: str) -> str:
    """Return what people call a column; a key of the script's own is called as it is."""
    return TITLES.get(column, column)


def columns_of(series: Series) -> list[str]:
    """Return the columns that have a chart: those that every training has, the times, then the script's own.

    What no line has a number of is left out; `eval_2` stands before `eval_10`.
    """
    known = [column for column in (*_FIRST, *TIMES) if column in series.with_numbers]
    return known + sorted(series.with_numbers.difference(known, _NO_CURVES), key=_natural)


def _natural(name: str) -> list[tuple[int, str]]:
    """Return what sorts names with numbers in them as people do; each odd part is a number, told by its length."""
    parts = re.split("([0-9]+)", name)
    return [(len(part.lstrip("0")), part.lstrip("0")) if at % 2 else (0, part) for at, part in enumerate(parts)]


def chart_set(job: str, wanted: Wanted) -> dict[str, Any]:
    """Return charts of a job as JSON values: `charts`, and `left_out`, the columns that are too many.

    The `section` of a chart is "times" where it is of `TIMES`, else empty.

    Raises:
        NotFoundError: the central store has nothing of the job.
    """
    from ugro_py import series

    found = series.open_job(job)
    names = columns_of(found)
    left_out = [column for column in names[_MOST:] if column not in wanted.more]
    charts = []
    for column in (*names[:_MOST], *(column for column in names[_MOST:] if column in wanted.more)):
        ranks = "each" if column in _PER_RANK else wanted.ranks
        chart = found.chart(column, by=wanted.by, ranks=ranks, points=wanted.points, smooth=wanted.smooth)
        values = _short(chart.to_json(), column)
        if any(y is not None for line in values["lines"] for y in line["y"]):
            charts.append({**values, "section": "times" if column in TIMES else ""})
    return {"charts": _with_computing(charts), "left_out": left_out}


def sample_set(job: str, points: int = 240) -> dict[str, Any]:
    """Return a chart for each reading of the nodes and GPUs of a job, along time, in the form of `chart_set`.

    Raises:
        NotFoundError: the central store has nothing of the job.
    """
    from ugro_py import series

    by_column: dict[str, dict[str, Any]] = {}
    places: dict[bool, list[tuple[Any, Any]]] = {True: [], False: []}  # each has one colour in all charts
    for line in series.open_job(job).samples(points=points):
        chart = by_column.setdefault(
            line["column"],
            {"column": line["column"], "title": title_of(line["column"]), "unit": line.get("unit", ""),
             "by": "time", "lines": [], "attempts": []},
        )  # fmt: skip
        name = " ".join(str(line[key]) for key in ("node", "gpu") if line.get(key) is not None)
        if line.get("reasons"):
            name += f" ({', '.join(reason.replace('_', ' ') for reason in line['reasons'])})"
        place, known = (line["node"], line["gpu"]), places[line["gpu"] is None]
        if place not in known:
            known.append(place)
        chart["lines"].append(
            {"name": name, "colour": known.index(place), **{key: line.get(key, []) for key in ("x", "y", "min", "max")}}
        )
    found = [_short(chart, column) for column, chart in by_column.items()]
    return {"charts": [chart for chart in found if any(line["x"] for line in chart["lines"])]}


def _with_computing(charts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add what is left of a step without its waits, where a script tells all three and not this itself."""
    of = {chart["column"]: chart for chart in charts}
    if _COMPUTE in of or not {_STEP, _DATA, _WAIT} <= of.keys():
        return charts
    lines = []
    for whole, *waits in zip(*(of[column]["lines"] for column in (_STEP, _DATA, _WAIT)), strict=False):
        if any(wait["name"] != whole["name"] or wait["x"] != whole["x"] for wait in waits):
            return charts  # they were not told at the same steps
        parts = zip(whole["y"], *(wait["y"] for wait in waits), strict=True)
        y = [None if None in part else max(0.0, part[0] - part[1] - part[2]) for part in parts]
        lines.append({"name": whole["name"], "x": whole["x"], "y": _rounded(y)})
    made = {**of[_STEP], "column": _COMPUTE, "title": title_of(_COMPUTE), "lines": lines}
    at = charts.index(of[_STEP]) + 1
    return [*charts[:at], made, *charts[at:]]


def _short(chart: dict[str, Any], column: str) -> dict[str, Any]:
    """Return a chart with its title, in as few digits as anybody sees, and without bands that are lines."""
    lines = []
    for line in chart["lines"]:
        short = {**line, "x": _rounded(line["x"]), "y": _rounded(line["y"])}
        if line["min"] == line["y"] == line["max"]:
            del short["min"], short["max"]
        else:
            short |= {"min": _rounded(line["min"]), "max": _rounded(line["max"])}
        lines.append(short)
    return {**chart, "title": title_of(column), "lines": lines}


def _rounded(values: list[Any]) -> list[Any]:
    """Return numbers rounded to a hundred-thousandth of the greatest of them; times to a tenth of a second."""
    greatest = max((abs(value) for value in values if value), default=0)
    if not math.isfinite(greatest) or not greatest:
        return values
    digits = 1 if greatest > 1e9 else 5 - math.floor(math.log10(greatest))
    return [None if value is None else round(value, digits) for value in values]


def one_chart(job: str, column: str, wanted: Wanted) -> dict[str, Any] | None:
    """Return one chart as JSON values; None if the job has no such column, or nothing at all."""
    from ugro_py import series

    try:
        found = series.open_job(job)
        if column not in found.columns:
            return None
        chart = found.chart(column, by=wanted.by, ranks=wanted.ranks, points=wanted.points, smooth=wanted.smooth)
    except (NotFoundError, UsageError):
        return None
    return _short(chart.to_json(), column)
