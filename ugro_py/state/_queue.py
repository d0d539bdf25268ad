"""The queue in the store: what waits, who holds GPUs, and changes of the queue's order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, or_, select, update

from ugro_py.errors import NotFoundError, UsageError
from ugro_py.state._base import Part, now
from ugro_py.state.models import ENDED, allocations, attempts, jobs
from ugro_py.state.rows import Controller

UNTIL = "ugro until "
"""So begins who holds a job that UGRO itself holds, until its owner does what the rest says."""
_AT_ONCE = 500  # names in one statement; SQLite takes 32766, of an old one 999


@dataclass(frozen=True, slots=True)
class QueuedRow:
    """A job that waits. `id` never changes and is no other job's; `stop_requested`: it is to end before it starts."""

    id: int
    name: str
    user: str
    group: str | None
    priority: int
    created_at: datetime
    position: float | None
    held_by: str | None
    after: tuple[str, ...]
    time_limit_s: float | None
    reason: str
    stop_requested: bool
    controller: Controller | None


@dataclass(frozen=True, slots=True)
class HolderRow:
    """A job that holds GPUs, since `since`; `stopping`: it was asked to end or to make room."""

    id: int
    name: str
    user: str
    group: str | None
    priority: int
    time_limit_s: float | None
    stopping: bool
    since: datetime
    gpus: tuple[str, ...]


_QUEUED = (
    jobs.c.id, jobs.c.name, jobs.c.user, jobs.c.unix_group, jobs.c.priority, jobs.c.created_at, jobs.c.position,
    jobs.c.held, jobs.c.held_by, jobs.c.after, jobs.c.time_limit_s, jobs.c.reason, jobs.c.stop_requested,
    jobs.c.controller_host, jobs.c.controller_boot_id, jobs.c.controller_pid, jobs.c.controller_start_ticks,
)  # fmt: skip


class Queue(Part):
    """The queue in the store: what waits, and changes of its order."""

    def queued(self) -> list[QueuedRow]:
        """Return the jobs that wait, oldest first, without what they ask for (see `requests`)."""
        query = select(*_QUEUED).where(jobs.c.status == "pending").order_by(jobs.c.id)
        with self.database.read() as connection:
            return [_queued(row) for row in connection.execute(query)]

    def requests(self, ids: Collection[int]) -> dict[int, Mapping[str, Any]]:
        """Return what jobs ask for: id -> the request they were created with."""
        found: dict[int, Mapping[str, Any]] = {}
        with self.database.read() as connection:
            for some in _chunks(sorted(ids)):
                query = select(jobs.c.id, jobs.c.request).where(jobs.c.id.in_(some))
                found.update((row.id, row.request) for row in connection.execute(query))
        return found

    def holders(self) -> list[HolderRow]:
        """Return the jobs that hold GPUs, by id."""
        query = (
            select(allocations.c.gpu_uuid, allocations.c.allocated_at, jobs)
            .join(attempts, attempts.c.id == allocations.c.attempt_id)
            .join(jobs, jobs.c.id == attempts.c.job_id)
            .where(allocations.c.released_at.is_(None))
            .order_by(jobs.c.id, allocations.c.id)
        )
        of: dict[int, list[Row[Any]]] = defaultdict(list)
        with self.database.read() as connection:
            for row in connection.execute(query):
                of[row.id].append(row)
        return [
            HolderRow(
                first.id, first.name, first.user, first.unix_group, first.priority, first.time_limit_s,
                first.stop_requested or first.preempt_for is not None, min(row.allocated_at for row in rows),
                tuple(row.gpu_uuid for row in rows),
            )
            for rows in of.values()
            for first in rows[:1]
        ]  # fmt: skip

    def spans(self, ids: Collection[int] | None = None) -> dict[int, list[tuple[datetime, datetime | None]]]:
        """Return when attempts ran, id of the job -> (start, end); by default of the jobs that wait."""
        query = select(attempts.c.job_id, attempts.c.started_at, attempts.c.ended_at).order_by(attempts.c.id)
        of: dict[int, list[tuple[datetime, datetime | None]]] = defaultdict(list)
        with self.database.read() as connection:
            if ids is None:
                queries = [query.join(jobs, jobs.c.id == attempts.c.job_id).where(jobs.c.status == "pending")]
            else:
                queries = [query.where(attempts.c.job_id.in_(some)) for some in _chunks(sorted(ids))]
            for one in queries:
                for row in connection.execute(one):
                    of[row.job_id].append((row.started_at, row.ended_at))
        return of

    def ended(self, names: Collection[str]) -> dict[str, str]:
        """Return how jobs have ended; "" for one that does not exist, nothing for one that has not ended."""
        found = dict.fromkeys(names, "")
        with self.database.read() as connection:
            for some in _chunks(sorted(names)):
                query = select(jobs.c.name, jobs.c.status).where(jobs.c.name.in_(some))
                found.update((row.name, row.status) for row in connection.execute(query))
        return {name: status for name, status in found.items() if not status or status in ENDED}

    def allocated(self, since: datetime) -> list[tuple[str, datetime, datetime | None]]:
        """Return who used GPUs after `since`: (user, from, until), one for each GPU; None where it is still used."""
        query = (
            select(jobs.c.user, allocations.c.allocated_at, allocations.c.released_at)
            .join(attempts, attempts.c.id == allocations.c.attempt_id)
            .join(jobs, jobs.c.id == attempts.c.job_id)
            .where(or_(allocations.c.released_at.is_(None), allocations.c.released_at > since))
            .order_by(allocations.c.id)
        )
        with self.database.read() as connection:
            return [(row.user, row.allocated_at, row.released_at) for row in connection.execute(query)]

    def count_queued(self, user: str, group: str | None) -> tuple[int, int]:
        """Return how many jobs of a user, and of a group, have not ended."""
        query = select(func.count().filter(jobs.c.user == user), func.count().filter(jobs.c.unix_group == group)).where(
            jobs.c.status.not_in(ENDED)
        )
        with self.database.read() as connection:
            of_user, of_group = connection.execute(query).one()
        return of_user, of_group if group is not None else 0

    def note_reasons(self, reasons: Mapping[str, str]) -> None:
        """Keep why jobs wait (name -> reason); one that does not wait any more stays as it is. Makes no events."""
        if not reasons:
            return
        query = select(jobs.c.name, jobs.c.reason).where(jobs.c.status == "pending")
        changed: dict[str, list[str]] = defaultdict(list)
        with self.database.read() as connection:
            for row in connection.execute(query):
                if reasons.get(row.name, row.reason) != row.reason:
                    changed[reasons[row.name]].append(row.name)
        if not changed:
            return
        with self.database.write() as connection:
            for reason, names in changed.items():
                for some in _chunks(names):
                    here = jobs.c.name.in_(some)
                    connection.execute(update(jobs).where(here, jobs.c.status == "pending").values(reason=reason))

    def hold(self, job: str, by: str, *, admin: bool = False) -> bool:
        """Keep a job that waits from starting; return whether that is new. One that is just starting goes back.

        It is news too where an `admin` holds what the owner, or UGRO itself, held before: from then on the admin does.

        Raises:
            NotFoundError: there is no such job.
            UsageError: it does not wait.
        """
        with self.database.write() as connection:
            row = self._waiting(connection, job, "hold", or_starting=True)
            news = not row.held or (admin and row.held_by != by and holds_loosely(row.held_by, row.user))
            return news and self._change(connection, row, "held", f"held by {by}", held=True, held_by=by)

    def let_go(self, job: str, by: str) -> bool:
        """Let a job that was held start when its turn comes; return whether it was held.

        Raises:
            NotFoundError: there is no such job.
            UsageError: it does not wait.
        """
        with self.database.write() as connection:
            row = self._waiting(connection, job, "release")
            text = f"let go by {by}"
            return row.held and self._change(connection, row, "let_go", text, held=False, held_by=None)

    def set_priority(self, job: str, priority: int, by: str) -> bool:
        """Give a job that waits another priority; return whether it had another. Its place among equals is forgotten.

        Raises:
            NotFoundError: there is no such job.
            UsageError: it does not wait.
        """
        with self.database.write() as connection:
            row = self._waiting(connection, job, "give another priority to")
            text = f"priority {row.priority} -> {priority} by {by}"
            return row.priority != priority and self._change(
                connection, row, "priority", text, priority=priority, position=None
            )

    def set_positions(self, positions: Mapping[str, float], text: str) -> None:
        """Set the places of jobs of one user and one priority (see `ugro_py.queue.order`); all or nothing.

        Args:
            positions: job -> its place.
            text: the event that the first of them gets.

        Raises:
            NotFoundError: one of them is gone.
            UsageError: one of them does not wait any more.
        """
        with self.database.write() as connection:
            for number, (job, position) in enumerate(positions.items()):
                row = self._waiting(connection, job, "move")
                connection.execute(update(jobs).where(jobs.c.id == row.id).values(position=position))
                if not number:
                    self._event(connection, "moved", text, job_id=row.id)

    def cancel(self, job: str, by: str) -> bool:
        """End a job that waits and that nobody controls; False if a process has it, which must be asked to end it.

        Raises:
            NotFoundError: there is no such job.
            UsageError: it does not wait.
        """
        with self.database.write() as connection:
            row = self._waiting(connection, job, "cancel")
            if row.controller_pid is not None:
                return False
            reason = f"cancelled by {by}"
            values = {"status": "stopped", "reason": reason, "ended_at": now(), "stop_requested": True}
            return self._change(connection, row, "job_status", f"pending -> stopped: {reason}", **values)

    def _waiting(self, connection: Connection, job: str, verb: str, *, or_starting: bool = False) -> Row[Any]:
        """Return a job that waits; on PostgreSQL nobody changes it until the transaction ends."""
        job_id = self._job_id(connection, job, lock=True)
        row = connection.execute(select(jobs).where(jobs.c.id == job_id)).one_or_none()
        if row is None:
            raise NotFoundError(f"job {job}", "it was removed", "see `ugro queue`")
        if row.status != "pending" and not (or_starting and row.status == "starting"):
            advice = f"stop it with `ugro stop {job}`" if row.status not in ENDED else "see `ugro ps --all`"
            raise UsageError(f"{verb} job {job}", f"it does not wait, it is {row.status}", advice)
        return row

    def _change(self, connection: Connection, row: Row[Any], kind: str, text: str, **values: Any) -> bool:
        connection.execute(update(jobs).where(jobs.c.id == row.id).values(**values))
        self._event(connection, kind, text, job_id=row.id)
        return True


def holds_loosely(held_by: str | None, owner: str) -> bool:
    """Say whether a hold is the owner's own to end: nobody else, no admin above all, holds the job."""
    return held_by in (None, owner) or (held_by or "").startswith(UNTIL)


def _queued(row: Any) -> QueuedRow:
    controller = None
    if row.controller_pid is not None:
        controller = Controller(
            row.controller_host, row.controller_boot_id, row.controller_pid, row.controller_start_ticks
        )
    return QueuedRow(
        row.id, row.name, row.user, row.unix_group, row.priority, row.created_at, row.position,
        (row.held_by or "somebody") if row.held else None, tuple(row.after or ()), row.time_limit_s, row.reason,
        row.stop_requested, controller,
    )  # fmt: skip


def _chunks(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (values[start : start + _AT_ONCE] for start in range(0, len(values), _AT_ONCE))
