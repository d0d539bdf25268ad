"""All experiments ever run: listed, filtered and sorted in the database, with figures that are never read twice."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ugro_py.errors import UgroError
from ugro_py.experiments import figures as experiment_figures
from ugro_py.experiments.filters import parse, sort_key
from ugro_py.state.rows import ran_s

if TYPE_CHECKING:
    from ugro_py.experiments.comparison import Comparison
    from ugro_py.state import Store
    from ugro_py.state.experiment_row import ExperimentRow

_log = logging.getLogger("ugro.experiments")

REFRESH_S = 15.0
"""Figures of a job that runs are at most about so old, where somebody looks at the list."""
_AT_ONCE = 50  # jobs whose figures one look has read, at most
_FAILED_S = 60.0  # after which figures that could not be read are tried again


@dataclass(frozen=True)
class Page:
    """A part of the list, and how many jobs the whole list has."""

    rows: tuple[ExperimentRow, ...]
    total: int

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"experiments": [row.to_json() for row in self.rows], "total": self.total}


def ls(
    store: Store,
    *,
    filters: Sequence[str] = (),
    search: str = "",
    sort: str = "-created",
    limit: int | None = None,
    offset: int = 0,
    wait_s: float | None = 0.05,
) -> Page:
    """Return jobs, by default the newest first.

    Figures of a job that has ended are kept in the database when it ends; those of jobs that ended before UGRO kept
    them, and of jobs that run, are read in the background when somebody looks.

    Args:
        store: the state store.
        filters: conditions that all must hold, such as `status=failed`, `tag=good`, `model~llama`, `loss<3.2`.
        search: a text that name, user, model, data set, status, note or a tag contains.
        sort: a column (`ugro_py.experiments.filters.SORTS`); with `-` in front the greatest comes first.
        limit, offset: of the part to return.
        wait_s: how long to wait for figures that must be read; None: until all are there.

    Raises:
        UsageError: a filter or the sort is none.
        StateError: the database cannot be used.
    """
    conditions, (key, falling) = parse(filters), sort_key(sort)
    store.note_requests()
    _refresh(store, store.unfigured(), wait_s)
    rows, total = store.experiments(conditions, search, (key, falling), limit, offset)
    now = datetime.now(UTC)
    if _refresh(store, [row.job for row in rows if _is_old(row, now)], wait_s):
        rows, total = store.experiments(conditions, search, (key, falling), limit, offset)
    return Page(tuple(_shown(row, now) for row in rows), total)


def compare(store: Store, jobs: Sequence[str], **options: Any) -> Comparison:
    """Return jobs side by side, see `ugro_py.experiments.comparison.compare`."""
    from ugro_py.experiments.comparison import compare as compare_jobs

    return compare_jobs(store, jobs, **options)


def one(store: Store, job: str) -> ExperimentRow:
    """Return one job as it would be listed; NotFoundError if there is none."""
    store.job(job)
    store.note_requests()
    rows, _ = store.experiments(names=[job])
    return _shown(rows[0], datetime.now(UTC))


def _is_old(row: ExperimentRow, now: datetime) -> bool:
    if row.started_at is None or row.ended_at is not None:
        return False
    return row.figures_at is None or (now - row.figures_at).total_seconds() > REFRESH_S


def _shown(row: ExperimentRow, now: datetime) -> ExperimentRow:
    """Return what is shown of a row: a job that runs has run until now, and one that waits again has no figures yet."""
    duration = row.duration_s
    if row.started_at is not None or row.status == "pending":
        ran = ran_s(row, now)
        duration = None if ran is None else round(ran, 3)
    return row._replace(note=row.note.partition("\n")[0], duration_s=duration)


_lock = threading.Lock()
_reading: dict[tuple[str, str], Future[None]] = {}
_failed: dict[tuple[str, str], float] = {}
_pool: ThreadPoolExecutor | None = None


def _refresh(store: Store, names: Sequence[str], wait_s: float | None) -> bool:
    """Read figures in the background, each job's once at a time; return whether any became ready meanwhile."""
    global _pool
    now = time.monotonic()
    with _lock:
        for key in [key for key, future in _reading.items() if future.done()]:
            del _reading[key]
        for key in [key for key, at in _failed.items() if now - at > _FAILED_S]:
            del _failed[key]
        keys = [(store.database.shown, name) for name in names]
        tasks = []
        for key in [key for key in keys if key not in _failed][: _AT_ONCE if wait_s is not None else None]:
            if key not in _reading:
                _pool = _pool or ThreadPoolExecutor(1, "figures")
                _reading[key] = _pool.submit(_read, store, key)
            tasks.append(_reading[key])
    return bool(tasks and wait(tasks, wait_s).done)


def _read(store: Store, key: tuple[str, str]) -> None:
    try:
        experiment_figures.read(store, key[1])
    except Exception as error:  # noqa: BLE001  it is listed without figures, and not read again at every look
        if not isinstance(error, UgroError | OSError):  # else it is gone, or cannot be read
            _log.exception("the figures of job %s", key[1])
        with _lock:
            _failed[key] = time.monotonic()
