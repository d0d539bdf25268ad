"""What the parts of the store share: transactions, and finding rows by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, case, insert, select, update
from sqlalchemy import text as text_

from ugro_py.errors import NotFoundError
from ugro_py.state.database import Database
from ugro_py.state.fence import Fence
from ugro_py.state.models import ENDED, allocations, attempts, events, jobs, ranks


def now() -> datetime:
    """Return the present time, aware and in UTC."""
    return datetime.now(UTC)


def check_values(values: Mapping[str, Any], allowed: frozenset[str]) -> None:
    """Raise ValueError if a name is none of the columns that may be set, or there is none."""
    unknown = sorted(values.keys() - allowed)
    if unknown or not values:
        raise ValueError(f"{unknown or 'nothing'} cannot be set; can: {sorted(allowed)}")


def set_end(values: dict[str, Any], ended_at: object) -> None:
    """Add `ended_at` to the columns to set, where their status ends what had not ended before."""
    if values.get("status") in ENDED and ended_at is None:
        values.setdefault("ended_at", now())


_CONTROLLED = (
    jobs.c.id, jobs.c.controller_host, jobs.c.controller_boot_id, jobs.c.controller_pid, jobs.c.controller_start_ticks,
)  # fmt: skip


class Part:
    """A part of `Store`; all parts work on the same database."""

    database: Database
    fence: Fence | None = None

    @staticmethod
    def _job_id(connection: Connection, name: str, *, lock: bool = False) -> int:
        """Return the id of a job; with `lock` (PostgreSQL) nobody else changes it meanwhile."""
        query = select(jobs.c.id).where(jobs.c.name == name)
        found: int | None = connection.scalar(query.with_for_update() if lock else query)
        if found is None:
            raise _no_such_job(connection, name)
        return found

    def _controlled(self, connection: Connection, name: str) -> int:
        """Return the id of a job that its controller is about to write to; nobody else changes it meanwhile.

        SQLite's write lock keeps others away, PostgreSQL's lock of the row: who claims the job waits, or came before.

        Raises:
            LostControlError: this store acts for a controller that the job does not have (any more).
            NotFoundError: there is no such job.
        """
        row = connection.execute(select(*_CONTROLLED).where(jobs.c.name == name).with_for_update()).one_or_none()
        if row is None:
            raise _no_such_job(connection, name)
        if self.fence is not None:
            self.fence.check(name, row)
        found: int = row.id
        return found

    @staticmethod
    def _attempt_id(connection: Connection, job: str, number: int) -> int:
        query = (
            select(attempts.c.id)
            .join(jobs, jobs.c.id == attempts.c.job_id)
            .where(jobs.c.name == job, attempts.c.number == number)
        )
        found: int | None = connection.scalar(query)
        if found is None:
            raise NotFoundError(f"attempt {number} of job {job!r}", "there is none", f"run `ugro status {job}`")
        return found

    @staticmethod
    def _end_attempts(connection: Connection, job_id: int, status: str, reason: str) -> None:
        """End the attempts of a job that nobody ended, and their ranks: their start broke off, say.

        Comes with the job's end, or its way back into the queue: it holds no GPU after that.
        """
        of_job = allocations.c.attempt_id.in_(select(attempts.c.id).where(attempts.c.job_id == job_id))
        held = allocations.c.released_at.is_(None) & of_job
        connection.execute(update(allocations).where(held).values(released_at=now()))
        open_ = (attempts.c.job_id == job_id) & attempts.c.ended_at.is_(None)
        of_open = ranks.c.attempt_id.in_(select(attempts.c.id).where(open_))
        at = now()
        unended = of_open & ranks.c.status.not_in((*ENDED, "lost"))
        connection.execute(update(ranks).where(unended).values(status="stopped", ended_at=at))
        values = {"status": status, "reason": case((attempts.c.reason == "", reason), else_=attempts.c.reason)}
        connection.execute(update(attempts).where(open_).values(ended_at=at, **values))

    @staticmethod
    def _event(
        connection: Connection,
        kind: str,
        text: str,
        *,
        job_id: int | None = None,
        node: str | None = None,
        rank: int | None = None,
        severity: str = "info",
        data: Mapping[str, Any] | None = None,
    ) -> None:
        if connection.dialect.name != "sqlite":
            # Before the event gets its id: whoever waits for those in flight (`settled.py`) must see this one too.
            connection.execute(text_("SELECT txid_current()"))
        connection.execute(
            insert(events).values(
                at=now(),
                kind=kind,
                severity=severity,
                text=text,
                job_id=job_id,
                node=node,
                rank=rank,
                data=dict(data) if data is not None else None,
            )
        )


def _no_such_job(connection: Connection, name: str) -> NotFoundError:
    newest = connection.scalars(select(jobs.c.name).order_by(jobs.c.id.desc()).limit(1000)).all()
    close = difflib.get_close_matches(name, newest, n=3, cutoff=0.5)
    advice = f"did you mean {' or '.join(close)}?" if close else "run `ugro ps --all` to see all jobs"
    shown = name if len(name) <= 70 else name[:67] + "..."
    return NotFoundError(f"job {shown!r}", "there is none", advice)
