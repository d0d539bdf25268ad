"""What a job achieved, from the central store and the state database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from ugro_py import checkpoints, metrics
from ugro_py.names import check_name
from ugro_py.paths import JobPaths

if TYPE_CHECKING:
    import pandas as pd

    from ugro_py.state import Store


@dataclass(frozen=True)
class LossPoint:
    """The training loss at one step, averaged over the ranks that reported it."""

    step: int
    loss: float


@dataclass(frozen=True)
class JobResults:
    """The figures of one job; None where nothing is known.

    Attributes:
        status: the job's status in the state database; "unknown" for a folder without one.
        attempts: how many times the gang was started.
        ranks: how many ranks the newest attempt has.
        nodes: the nodes of the newest attempt.
        steps: the last step any rank reported.
        duration_s: from the first start to the end, or to now while it runs.
        loss_first, loss_last, loss_best: the loss at the first and the last step, and the lowest one.
        nonfinite_steps: steps whose loss was NaN or infinite.
        throughput_tokens_sec: tokens/s, the median of each rank summed over the ranks that tell it.
        gpu_util_percent, gpu_mem_gb: means over time and over the job's GPUs; None on CPU.
        cpu_percent, node_mem_gb: means over time and nodes of what whole machines used.
        checkpoint: the newest complete checkpoint, `final.pt` if there is one.
        tensorboard: the folder of event files, if it has any.
        store: the job's folder in the central store.
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
    curve: tuple[LossPoint, ...] = field(default=(), repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values; the curve itself is in `metrics.jsonl`."""
        values = asdict(self)
        del values["curve"]
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
    if paths.root.is_dir() and not paths.metrics.exists():
        metrics.rebuild(paths)  # its controller was killed before it could
    lines, samples = _Lines(metrics.read(paths)), _Samples(paths)
    known = store.ranks(job, attempt.number) if store and attempt else []
    started = (row.started_at if row else None) or samples.first
    ended = row.ended_at if row else samples.last
    until = ended or (datetime.now(UTC) if started else None)
    curve = lines.curve()
    return JobResults(
        job=job,
        status=row.status if row else "unknown",
        reason=row.reason if row else "",
        attempts=attempt.number if attempt else samples.attempt,
        ranks=len(known) or len(lines.newest_ranks()),
        nodes=tuple(dict.fromkeys(rank.node for rank in known)) or samples.nodes,
        steps=lines.last_step,
        started_at=started,
        ended_at=ended,
        duration_s=round((until - started).total_seconds(), 3) if started and until else None,
        loss_first=curve[0] if curve else None,
        loss_last=curve[-1] if curve else None,
        loss_best=min(curve, key=lambda point: point.loss, default=None),
        nonfinite_steps=lines.nonfinite_steps(),
        throughput_tokens_sec=lines.throughput(),
        gpu_util_percent=samples.mean("util", lines.gpu_util),
        gpu_mem_gb=samples.mean("mem_used_gb", lines.gpu_mem),
        cpu_percent=samples.mean("cpu_percent"),
        node_mem_gb=samples.mean("node_mem_gb"),
        checkpoint=_text(checkpoints.newest(paths)),
        tensorboard=_text(paths.tensorboard if any(path.is_file() for path in paths.tensorboard.rglob("*")) else None),
        store=str(paths.root),
        curve=tuple(curve),
    )


def write_notes(job: str, store: Store | None = None) -> Path:
    """Write or refresh the figures in the Markdown notes of the experiment and return their path.

    Only the part between the two markers is UGRO's; what a person wrote around it stays, and notes without the
    markers are left alone. With `store` the figures are kept there too, for lists of experiments.

    Raises:
        NotFoundError, StateError: as `summary`; also when the notes cannot be written.
    """
    if store is None:
        from ugro_py.notes import write

        return write(summary(job))
    from ugro_py.experiment_figures import finish

    return finish(job, store)


def load(job: str) -> pd.DataFrame:
    """Return every line of `metrics.jsonl` as a data frame, in the order of the file.

    Columns: `timestamp` (UTC), `job_id`, `attempt` (from 1), `rank`, `step`, `gpu_util` (percent),
    `gpu_mem_used_gb` (GB), `training_loss` (of that rank), `throughput_tokens_sec` (tokens/s of that rank),
    `gradient_norm`, `learning_rate`, and what else the script reported (`epoch`, `total_steps`, …).
    Numbers that are not known are NaN. A job without metrics gives an empty frame with these columns.
    """
    import pandas as pd

    frame = pd.DataFrame(metrics.read(JobPaths(check_name(job))))
    frame = frame.reindex(columns=[*metrics.FIELDS, *(c for c in frame.columns if c not in metrics.FIELDS)])
    frame["timestamp"] = pd.to_datetime(frame["timestamp"], utc=True, errors="coerce", format="ISO8601")
    for column in metrics.FIELDS[2:]:
        frame[column] = pd.to_numeric(frame[column], errors="coerce")
    return frame


class _Lines:
    """What the lines of `metrics.jsonl` say. Where attempts overlap after a resume, the newest one counts."""

    def __init__(self, lines: Iterable[dict[str, Any]]) -> None:
        self.last_step: int | None = None
        self.gpu_util: list[float] = []
        self.gpu_mem: list[float] = []
        self._losses: dict[int, tuple[int, dict[int, float | None]]] = {}
        self._rates: dict[int, dict[int, list[float]]] = {}
        for line in lines:
            attempt, rank, step = line.get("attempt"), line.get("rank"), line.get("step")
            if not (isinstance(attempt, int) and isinstance(rank, int) and isinstance(step, int)):
                continue
            self.last_step = max(step, self.last_step or 0)
            rates = self._rates.setdefault(attempt, {}).setdefault(rank, [])
            for key, values in (
                ("gpu_util", self.gpu_util), ("gpu_mem_used_gb", self.gpu_mem), ("throughput_tokens_sec", rates),
            ):  # fmt: skip
                if isinstance(line.get(key), int | float):
                    values.append(line[key])
            loss = line.get("training_loss")
            if isinstance(loss, int | float) or "training_loss" in (line.get("nonfinite") or ()):
                if step not in self._losses or self._losses[step][0] < attempt:
                    self._losses[step] = (attempt, {})
                self._losses[step][1][rank] = loss

    def curve(self) -> list[LossPoint]:
        """The loss per step, averaged over ranks; steps with a loss that is no number are left out."""
        points = []
        for step in sorted(self._losses):
            losses = [loss for loss in self._losses[step][1].values() if loss is not None]
            if losses and len(losses) == len(self._losses[step][1]):
                points.append(LossPoint(step, sum(losses) / len(losses)))
        return points

    def nonfinite_steps(self) -> int:
        return sum(None in by_rank.values() for _, by_rank in self._losses.values())

    def newest_ranks(self) -> list[int]:
        return sorted(self._rates[max(self._rates)]) if self._rates else []

    def throughput(self) -> float | None:
        """Tokens/s of the newest attempt that tells any. The median leaves out the slow first steps."""
        for attempt in sorted(self._rates, reverse=True):
            medians = [median(rates) for rates in self._rates[attempt].values() if rates]
            if medians:
                return float(sum(medians))
        return None


class _Samples:
    """What the nodes measured while the job ran, from all event copies."""

    def __init__(self, paths: JobPaths) -> None:
        self._values: dict[str, list[float]] = {"util": [], "mem_used_gb": [], "cpu_percent": [], "node_mem_gb": []}
        times: list[float] = []
        found = paths.event_copies()
        self.attempt = max((attempt for attempt, _, _ in found), default=0)
        self.nodes = tuple(node for attempt, node, _ in found if attempt == self.attempt)
        for _, _, path in found:
            for event in _events(path, b"sample", b"supervisor_started", b"finished"):
                if isinstance(event.get("t"), int | float):
                    times.append(event["t"])
                if event.get("kind") == "sample":
                    self._add(event)
        self.first = datetime.fromtimestamp(min(times), UTC) if times else None
        self.last = datetime.fromtimestamp(max(times), UTC) if times else None

    def _add(self, sample: dict[str, Any]) -> None:
        gpus = sample.get("gpus")
        for values in (sample | {"node_mem_gb": sample.get("mem_used_gb"), "mem_used_gb": None},
                       *(gpus if isinstance(gpus, list) else ())):  # fmt: skip
            for key, numbers in self._values.items():
                if isinstance(values, dict) and isinstance(values.get(key), int | float):
                    numbers.append(values[key])

    def mean(self, key: str, otherwise: Iterable[float] = ()) -> float | None:
        """Return the mean of a reading: of the samples, steady in time, else of the metrics."""
        values = self._values[key] or list(otherwise)
        return round(sum(values) / len(values), 3) if values else None


def _events(path: Path, *kinds: bytes) -> Iterator[dict[str, Any]]:
    """Yield the events of these kinds; a cheap look at the bytes spares reading all the others as JSON."""
    wanted = [b'"kind": "' + kind + b'"' for kind in kinds]
    with path.open("rb") as stream:
        for raw in stream:
            if any(kind in raw for kind in wanted):
                event = metrics.parse(raw)
                if event is not None:
                    yield event


def _text(path: Path | None) -> str | None:
    return str(path) if path else None
