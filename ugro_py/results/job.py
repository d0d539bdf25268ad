"""What a job achieved, from the central store and the state database."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ugro_py import checkpoints, series
from ugro_py.names import check_name
from ugro_py.paths import JobPaths
from ugro_py.results.lines import Curve, Lines, LossPoint, thin

if TYPE_CHECKING:
    import pandas as pd

    from ugro_py.state import Store

__all__ = ["Curve", "JobResults", "LossPoint", "from_json", "load", "summary", "thin"]


@dataclass(frozen=True)
class JobResults:
    """The figures of one job; None where nothing is known.

    Attributes:
        status: the job's status in the state database; "unknown" for a folder without one.
        attempts: how many times the gang was started.
        ranks: how many ranks the newest attempt has.
        nodes: the nodes of the newest attempt.
        steps: the last step any rank reported.
        duration_s: from the first start to the end, or to now while it runs; None while it waits to run again.
        loss_first, loss_last, loss_best: the loss at the first and the last step, and the lowest one. There is no
            last one where it is NaN or infinite.
        nonfinite_steps: steps whose loss was NaN or infinite.
        nonfinite_since: the step from which on every loss was, up to the last; None where the last is a number.
        throughput_tokens_sec: tokens/s, the median of each rank summed over the ranks that tell it.
        gpu_util_percent, gpu_mem_gb: means over time and over the job's GPUs; None on CPU.
        cpu_percent, node_mem_gb: means over time and nodes of what whole machines used.
        checkpoint: the newest complete checkpoint, `final.pt` if there is one.
        tensorboard: the folder of event files, if it has any.
        store: the job's folder in the central store.
        folder_gone: it is not there though the job has ended; known is what the state database keeps of it.
    """

    job: str
    status: str
    reason: str
    attempts: int
    ranks: int
    nodes: tuple[str, ...]
    steps: int | None
    started_at: datetime | None
    ended_at: datetime | None
    duration_s: float | None
    loss_first: LossPoint | None
    loss_last: LossPoint | None
    loss_best: LossPoint | None
    nonfinite_steps: int
    throughput_tokens_sec: float | None
    gpu_util_percent: float | None
    gpu_mem_gb: float | None
    cpu_percent: float | None
    node_mem_gb: float | None
    checkpoint: str | None
    tensorboard: str | None
    store: str
    folder_gone: bool = False
    nonfinite_since: int | None = None
    curve: Sequence[LossPoint] = field(default=(), repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values; the curve itself is in `metrics.jsonl`."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "curve"}
        for key in ("loss_first", "loss_last", "loss_best"):
            values[key] = values[key] and asdict(values[key])
        for key in ("started_at", "ended_at"):
            values[key] = values[key] and values[key].strftime("%Y-%m-%dT%H:%M:%SZ")
        return values


def from_json(results: Mapping[str, Any], curve: Sequence[Sequence[Any]]) -> JobResults:
    """Return the figures that `JobResults.to_json` made JSON values of, with the curve as pairs of step and loss."""
    values = dict(results)
    for key in ("started_at", "ended_at"):
        values[key] = values[key] and datetime.fromisoformat(values[key])
    for key in ("loss_first", "loss_last", "loss_best"):
        values[key] = values[key] and LossPoint(**values[key])
    known = {key: value for key, value in values.items() if key in JobResults.__dataclass_fields__}
    return JobResults(**{**known, "nodes": tuple(known["nodes"]), "curve": tuple(LossPoint(*pair) for pair in curve)})


def summary(job: str, store: Store | None = None) -> JobResults:
    """Return the figures of `job`.

    Args:
        job: its name.
        store: the state database; without it only the central store is read.

    Raises:
        NotFoundError: the state database has no such job.
        StateError: the database or the central store cannot be used.
    """
    row = store.job(check_name(job)) if store else None
    attempt = store.attempt(job) if store else None
    paths = JobPaths(check_name(job))
    told = series.open_job(job) if paths.root.is_dir() else series.Series(paths)
    lines, samples = Lines(told), told.machines
    known = store.ranks(job, attempt.number) if store and attempt else []
    first, last = map(_moment, samples.span())
    started = (row.started_at if row else None) or first
    ended = row.ended_at if row else last
    waits = row is not None and row.status == "pending"  # to run again
    until = ended or (datetime.now(UTC) if started and not waits else None)
    curve, lost = lines.curve(), lines.nonfinite_since()
    found = JobResults(
        job=job,
        status=row.status if row else "unknown",
        reason=row.reason if row else "",
        attempts=attempt.number if attempt else samples.attempt,
        ranks=len(known) or len(told.newest_ranks),
        nodes=tuple(dict.fromkeys(rank.node for rank in known)) or samples.nodes,
        steps=told.last_step,
        started_at=started,
        ended_at=ended,
        duration_s=round((until - started).total_seconds(), 3) if started and until else None,
        loss_first=curve[0] if curve else None,
        loss_last=curve[-1] if curve and lost is None else None,
        loss_best=curve.best(),
        nonfinite_steps=lines.nonfinite_steps(),
        nonfinite_since=lost,
        throughput_tokens_sec=lines.throughput(),
        # The samples of GPUs are steady in time; the lines of metrics are not.
        gpu_util_percent=_first(samples.mean("gpu_util"), lambda: lines.mean("gpu_util")),
        gpu_mem_gb=_first(samples.mean("gpu_mem_used_gb"), lambda: lines.mean("gpu_mem_used_gb")),
        cpu_percent=_first(samples.mean("cpu_percent")),
        node_mem_gb=_first(samples.mean("mem_used_gb")),
        checkpoint=_text(checkpoints.newest(paths)),
        tensorboard=_text(paths.tensorboard if any(path.is_file() for path in paths.tensorboard.rglob("*")) else None),
        store=str(paths.root),
        curve=curve,
    )
    is_gone = row is not None and row.started_at is not None and row.ended_at is not None and not paths.root.is_dir()
    return _kept(found, store) if is_gone and store is not None else found


def _kept(found: JobResults, store: Store) -> JobResults:
    """Return the figures that the state database keeps of a job without a folder, where it has them."""
    known = found.to_json()
    known |= {key: value for key, value in (store.kept_figures(found.job) or {}).items() if key in known}
    return replace(from_json(known, ()), checkpoint=None, tensorboard=None, folder_gone=True)


def load(job: str, *, samples: bool = False, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return every line of `metrics.jsonl` as a data frame, in the order of the file.

    Columns: `timestamp` (UTC), `job_id`, `attempt` (from 1), `rank`, `step`, `gpu_util` (percent),
    `gpu_mem_used_gb` (GB), `training_loss` (of that rank), `throughput_tokens_sec` (tokens/s of that rank),
    `gradient_norm`, `learning_rate`, and what else the script reported (`epoch`, `total_steps`, …), all of them in
    docs/series.md. Numbers that are not known are NaN, and so are those that the script reported as NaN or infinite:
    these are named in `nonfinite` (text, where there are any). What lines hold besides numbers is JSON in `other`.
    A job without metrics gives an empty frame with these columns.

    Args:
        samples: add what the node of the rank measured within 5 s of the line, the nearest reading: `node`,
            `node_cpu_percent`, `node_mem_used_gb`, `node_net_rx_mb_s`, … (docs/series.md).
        columns: only these, which is faster.

    Raises:
        NotFoundError: the central store has no such job.
        StateError: the central store cannot be read.
    """
    from ugro_py.results.frame import frame

    return frame(series.open_job(job), samples=samples, columns=columns)


def _moment(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)


def _first(value: float | None, otherwise: Callable[[], float | None] = lambda: None) -> float | None:
    value = otherwise() if value is None else value
    return None if value is None else round(value, 3)


def _text(path: Path | None) -> str | None:
    return str(path) if path else None
