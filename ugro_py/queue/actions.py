"""Changes of the queue that people ask for. Who may ask is the caller's business; what is asked is checked here.

Each function returns whether anything changed, and raises NotFoundError for a job that there is not, and UsageError
for one that does not wait any more.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from ugro_py.errors import UsageError
from ugro_py.queue.snapshot import since
from ugro_py.state import Store
from ugro_py.state._queue import QueuedRow
from ugro_py.state._submit import refuse_over_quota

_STEP, _TICK = 1.0, 0.001  # seconds, between places in the queue


def hold(store: Store, job: str, by: str, *, admin: bool = False) -> bool:
    """Keep a job that waits from starting until it is released; what an admin holds its owner can't release."""
    return store.hold(job, by, admin=admin)


def release(store: Store, job: str, by: str) -> bool:
    """Let a job that was held start when its turn comes."""
    return store.let_go(job, by)


def set_priority(store: Store, job: str, priority: int, by: str) -> bool:
    """Give a job that waits another priority, 0 to 100."""
    if not 0 <= priority <= 100:
        raise UsageError(f"priority {priority}", "is not between 0 and 100", "urgent is 90, normal 50, batch 10")
    return store.set_priority(job, priority, by)


def cancel(store: Store, job: str, by: str) -> bool:
    """End a job that waits; where a process waits with it, that one is asked to."""
    if store.cancel(job, by):
        from ugro_py import late  # only here: it talks to nodes, and takes its time to import

        late.note_uncollected(store, job)
    else:
        store.request_stop(job)
    return True


def preempt(store: Store, job: str, for_job: str) -> bool:
    """Ask a running job to stop with a checkpoint and to queue again, so that a more urgent one can start."""
    return store.request_preempt(job, for_job)


def move(store: Store, job: str, to: str, by: str, *, other: str | None = None) -> bool:
    """Move a job among the jobs of the same user and priority; everybody else's turn stays as it is.

    Args:
        store: the state store.
        job: the job to move.
        to: `first`, `last`, or `before` with the name of `other`.
        by: who asks.
        other: the job to come before.
    """
    rows = {row.name: row for row in store.queued()}
    if job not in rows:
        waits = store.job(job)  # raises if there is none
        raise UsageError(f"move job {job}", f"it does not wait, it is {waits.status}", "see `ugro queue`")
    mine = rows[job]
    peers = [row for row in rows.values() if (row.user, row.priority) == (mine.user, mine.priority)]
    spans = store.spans()
    ranks = {row.name: _rank(row, since(row, spans)) for row in peers}
    peers.sort(key=lambda row: ranks[row.name])
    others = [row for row in peers if row.name != job]
    if to == "first":
        place = 0
    elif to == "last":
        place = len(others)
    elif to == "before" and other is not None:
        place = _place_before(store, mine, other, rows, others)
    else:
        raise UsageError(f"move job {job} {to}", "is no place in the queue", "say first, last or before JOB")
    line = [*others[:place], mine, *others[place:]]
    if line == peers:
        return False
    store.set_positions(
        _positions([row.name for row in line], place, ranks), f"moved {to}{f' job {other}' if other else ''} by {by}"
    )
    return True


def _place_before(
    store: Store, mine: QueuedRow, other: str, rows: dict[str, QueuedRow], others: list[QueuedRow]
) -> int:
    if other == mine.name:
        raise UsageError(f"move job {other}", "it cannot come before itself", "name another job")
    if other not in rows:
        there = store.job(other)
        raise UsageError(f"move before job {other}", f"it does not wait, it is {there.status}", "see `ugro queue`")
    names = [row.name for row in others]
    if other not in names:
        theirs = rows[other]
        said = f"it is a job of {theirs.user}" if theirs.user != mine.user else f"its priority is {theirs.priority}"
        advice = f"a job moves among those of its user and priority; see `ugro queue priority {mine.name}`"
        raise UsageError(f"move before job {other}", said, advice)
    return names.index(other)


_Rank = tuple[float, float, str]


def _positions(line: list[str], place: int, ranks: Mapping[str, _Rank]) -> dict[str, float]:
    """Return what puts the job at `place` there: its own position, or all anew where there is no room between two."""
    job = line[place]
    low = ranks[line[place - 1]][0] if place else None
    high = ranks[line[place + 1]][0] if place + 1 < len(line) else None
    if low is None and high is not None:
        return {job: high - _STEP}
    if high is None and low is not None:
        return {job: max(time.time(), low + _TICK)}  # a job asked for later comes after it
    if low is not None and high is not None:
        middle = (low + high) / 2
        if low < middle < high:
            return {job: middle}
    start, end = (of(ranks[name][0] for name in line) for of in (min, max))
    step = max((end - start) / len(line), _TICK)
    places = {name: end - (len(line) - 1 - number) * step for number, name in enumerate(line)}
    return {job: places.pop(job), **places}


def _rank(row: QueuedRow, queued_at: float) -> _Rank:
    """Return what orders the jobs of one user and one priority, as the scheduler does."""
    return (queued_at if row.position is None else row.position, queued_at, row.name)


def check_submission(store: Store, user: str, group: str | None, after: tuple[str, ...] = ()) -> None:
    """Refuse a new job of a user who has as many as the quota allows, or that is to follow a job there is not.

    Raises:
        RightsError: the quota of jobs that have not ended is used up.
        NotFoundError: there is no job of a name in `after`.
    """
    for name in after:
        store.job(name)
    limits = {(row.kind, row.name): row.max_queued for row in store.accounts() if row.max_queued is not None}
    if not limits:
        return
    refuse_over_quota(limits, user, group, *store.count_queued(user, group))
