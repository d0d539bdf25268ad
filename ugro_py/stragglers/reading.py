"""What is known of a job's newest steps: metrics by rank, places of the ranks, samples of the nodes, in that time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ugro_py import metrics
from ugro_py.errors import NotFoundError
from ugro_py.paths import JobPaths
from ugro_py.stragglers.times import COLUMNS, Place

if TYPE_CHECKING:
    import numpy as np

    from ugro_py.scheduler import Gpu
    from ugro_py.state import Store

NEWEST_STEPS = 1000
# Samples come once a second; of a file of events no more than its end is read.
_TAIL_BYTES = 8 << 20
_LARGEST_BYTES = 1e15


@dataclass(frozen=True)
class Window:
    """The newest steps of one attempt.

    Attributes:
        steps: rank -> column -> values in order of steps; `step`, `time` (Unix seconds) and `COLUMNS`.
        first, last: Unix times of its first and last line.
        gradient_bytes: what each rank reduces at a step; None where the script does not tell.
        samples: node -> its samples of that time (`kind: sample` of docs/architecture.md), oldest first.
        places: rank -> where it is.
    """

    attempt: int
    steps: dict[int, dict[str, np.ndarray]]
    first: float
    last: float
    gradient_bytes: int | None
    places: dict[int, Place]
    samples: dict[str, list[dict[str, Any]]] = field(repr=False)


def window(job: str, store: Store | None = None, attempt: int | None = None, newest: int = NEWEST_STEPS) -> Window:
    """Return what the newest steps of an attempt (default: the newest one with metrics) left in the central store.

    Raises:
        NotFoundError: the central store has nothing of the job, or the job had no such attempt.
    """
    paths = JobPaths(job)
    newest_one = store.attempt(job) if store is not None and attempt is not None else None
    if attempt is not None and newest_one is not None and attempt > newest_one.number:
        raise NotFoundError(
            f"attempt {attempt} of job {job}", f"it had {newest_one.number}", f"see `ugro status {job}`"
        )
    attempt, steps, gradient_bytes = _steps(job, attempt, newest)
    moments = [float(moment) for columns in steps.values() for moment in columns["time"] if moment == moment]
    first, last = (min(moments), max(moments)) if moments else (0.0, 0.0)
    places = _places(job, attempt, store)
    samples = {
        node: _samples(path, first, last) for number, node, path in paths.event_copies() if number == attempt
    }  # fmt: skip
    return Window(attempt, steps, first, last, gradient_bytes, places, samples)


def _steps(job: str, attempt: int | None, newest: int) -> tuple[int, dict[int, dict[str, np.ndarray]], int | None]:
    """Return the attempt, its newest steps by rank, and the size of its gradients."""
    import numpy as np

    columns = _columns(job)
    if not len(columns["step"]):
        return attempt or 1, {}, None
    number = attempt or int(columns["attempt"].max())
    of_attempt = columns["attempt"] == number
    columns = {name: column[of_attempt] for name, column in columns.items()}
    sizes = columns["gradient_bytes"]
    known = sizes[(sizes > 0) & (sizes < _LARGEST_BYTES)]
    recent = columns["step"] > columns["step"].max(initial=0) - newest
    steps = {}
    for rank in np.unique(columns["rank"][recent]):
        mine = recent & (columns["rank"] == rank)
        order = np.argsort(columns["step"][mine], kind="stable")
        steps[int(rank)] = {name: columns[name][mine][order] for name in ("step", "time", *COLUMNS)}
    return number, steps, int(known.max()) if len(known) else None


def _columns(job: str) -> dict[str, np.ndarray]:
    """Return attempt, rank, step, time and what else is of use here of every line; NaN where one lacks it."""
    import numpy as np

    from ugro_py import series

    opened = series.open_job(job)
    wanted = (*COLUMNS, "gradient_bytes")
    told = [name for name in wanted if name in opened.columns]
    table = opened.table(told or ["training_loss"])  # a table of no column has no lines either
    columns = {name: table[name].to_numpy() for name in ("attempt", "rank", "step", "time", *told)}
    return columns | {name: np.full(table.num_rows, np.nan) for name in wanted if name not in told}


def _places(job: str, attempt: int, store: Store | None) -> dict[int, Place]:
    """Return where the ranks are, as the central store says, else as the database does."""
    from ugro_py.saved import load_gang

    try:
        saved = load_gang(job, attempt)
    except (OSError, ValueError, KeyError, TypeError):
        saved = None  # damaged
    if saved is not None:
        return {place.rank: _place(place.node, place.gpu.uuid, place.gpu) for place in saved[0].placements}
    if store is None:
        return {}
    known = {gpu.uuid: gpu for gpu in store.gpus()}
    return {rank.rank: _place(rank.node, rank.gpu_uuid, known.get(rank.gpu_uuid)) for rank in store.ranks(job, attempt)}


def _place(node: str, uuid: str, gpu: Gpu | None) -> Place:
    """Return the place of a rank; a CPU slot has no model and is no GPU that could be looked for by its index."""
    return Place(node, uuid) if gpu is None or gpu.kind == "cpu" else Place(node, uuid, gpu.name or "", gpu.index)


def _samples(path: Any, first: float, last: float) -> list[dict[str, Any]]:
    """Return the samples of one node between two times, a moment more on each side."""
    found = []
    with path.open("rb") as stream:
        stream.seek(0, 2)
        stream.seek(max(0, stream.tell() - _TAIL_BYTES))
        for raw in stream:
            event = metrics.parse(raw) if b'"kind": "sample"' in raw else None
            moment = event.get("t") if event else None
            if event and isinstance(moment, int | float) and first - 2 <= moment <= last + 2:
                found.append(event)
    return found
