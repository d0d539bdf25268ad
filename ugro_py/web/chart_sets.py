"""The charts of an experiment as one answer: computed once for all who look, until the job has written more."""

from __future__ import annotations

import json
import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from starlette.responses import Response

from ugro_py.errors import NotFoundError, UsageError
from ugro_py.paths import JobPaths

if TYPE_CHECKING:
    from ugro_py.series import Series

By = Literal["step", "time"]
Ranks = Literal["mean", "each"]

TITLES = {
    "training_loss": "Training loss",
    "throughput_tokens_sec": "Throughput",
    "learning_rate": "Learning rate",
    "gradient_norm": "Gradient norm",
    "gpu_util": "GPU utilisation",
    "gpu_mem_used_gb": "GPU memory",
    "cpu_percent": "CPU of the nodes",
    "mem_used_gb": "Memory of the nodes",
    "net_rx_mb_s": "Network, received",
    "net_tx_mb_s": "Network, sent",
    "disk_read_mb_s": "Disk, read",
    "disk_write_mb_s": "Disk, written",
    "temperature_c": "GPU temperature",
    "power_w": "GPU power",
}
_FIRST = tuple(TITLES)[:6]
_PER_RANK = ("gpu_util", "gpu_mem_used_gb")
# Of every line of metrics, but no curve that anybody wants to see.
_NO_CURVES = ("attempt", "rank", "step", "time", "total_steps")
_MOST = 24
_KEPT = 64


@dataclass(frozen=True)
class Wanted:
    """How charts are to be drawn: along steps or time, ranks together or each, smoothed, with so many points."""

    by: By = "step"
    ranks: Ranks = "mean"
    smooth: float = 0.0
    points: int = 800


def title_of(column: str) -> str:
    """Return what people call a column; a key of the script's own is called as it is."""
    return TITLES.get(column, column)


def columns_of(series: Series) -> list[str]:
    """Return the columns that have a chart: those that every training has, then the script's own."""
    known = [column for column in _FIRST if column in series.columns]
    return known + sorted(column for column in series.columns if column not in known and column not in _NO_CURVES)


def chart_set(job: str, wanted: Wanted) -> dict[str, Any]:
    """Return all charts of a job as JSON values: `charts` of its metrics and `samples` of its nodes.

    Raises:
        NotFoundError: the central store has nothing of the job.
    """
    from ugro_py import series

    found = series.open_job(job)
    names = columns_of(found)
    charts = []
    for column in names[:_MOST]:
        ranks = "each" if column in _PER_RANK else wanted.ranks
        chart = found.chart(column, by=wanted.by, ranks=ranks, points=wanted.points, smooth=wanted.smooth)
        charts.append({**chart.to_json(), "title": title_of(column)})
    return {"charts": charts, "samples": samples_of(found, min(wanted.points, 600)), "left_out": names[_MOST:]}


def samples_of(found: Series, points: int) -> list[dict[str, Any]]:
    """Return a chart for each reading of nodes and GPUs, in the form of the others, along time."""
    by_column: dict[str, dict[str, Any]] = {}
    for line in found.samples(points=points):
        chart = by_column.setdefault(
            line["column"],
            {"column": line["column"], "title": title_of(line["column"]), "unit": line.get("unit", ""),
             "by": "time", "lines": [], "attempts": []},
        )  # fmt: skip
        name = " ".join(str(line[key]) for key in ("node", "gpu") if line.get(key) is not None)
        chart["lines"].append({"name": name, **{key: line.get(key, []) for key in ("x", "y", "min", "max")}})
    return [chart for chart in by_column.values() if any(line["x"] for line in chart["lines"])]


class Kept:
    """Answers that took work, kept as long as the files of their job stay as they are."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[str, threading.Lock] = {}
        self._answers: OrderedDict[tuple[Any, ...], tuple[object, bytes]] = OrderedDict()

    def get(self, job: str, key: tuple[Any, ...], make: Callable[[], object]) -> tuple[str, bytes]:
        """Return a tag of the answer and the answer as JSON; `make` is called by one thread, the others wait for it."""
        with self._lock:
            lock = self._jobs.setdefault(job, threading.Lock())
        with lock:
            mark = mark_of(job)
            tag = f'"{abs(hash((job, key, mark))):x}"'
            with self._lock:
                known = self._answers.get((job, *key))
                if known is not None and known[0] == mark:
                    self._answers.move_to_end((job, *key))
                    return tag, known[1]
            answer = as_json(make())
            with self._lock:
                self._answers[job, *key] = (mark, answer)
                while len(self._answers) > _KEPT:
                    gone, _ = self._answers.popitem(last=False)
                    if not any(name == gone[0] for name, *_ in self._answers):
                        self._jobs.pop(gone[0], None)
        return tag, answer


def mark_of(job: str) -> tuple[tuple[int, int], ...]:
    """Return what is other as soon as a job has written more metrics or samples."""
    paths = JobPaths(job)
    marks = []
    for path in (paths.metrics, *(path for _, _, path in paths.event_copies())):
        try:
            status = path.stat()
        except OSError:
            continue  # not there yet, or moved meanwhile
        marks.append((status.st_ino, status.st_size))
    return tuple(marks)


def json_answer(values: object) -> Response:
    """Return values as an answer; a number that is none becomes null, as charts have it."""
    return Response(as_json(values), media_type="application/json")


def as_json(values: object) -> bytes:
    """Return values as JSON that every browser reads."""
    try:
        text = json.dumps(values, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_finite(values), allow_nan=False, separators=(",", ":"))
    return text.encode()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
    return {**chart.to_json(), "title": title_of(column)}
