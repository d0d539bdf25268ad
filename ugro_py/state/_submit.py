"""Submissions in the store: jobs that enter the queue, as many at once as ask at the same moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, exists, func, insert, or_, select
from sqlalchemy.exc import IntegrityError

from ugro_py.errors import RightsError, UgroError
from ugro_py.names import NameTakenError
from ugro_py.state._base import Part, now
from ugro_py.state._experiments import keep_words, without_words, words_of
from ugro_py.state._jobs import _job_row
from ugro_py.state.models import ENDED, accounts, attempts, audit, events, jobs
from ugro_py.state.rows import JobRow

# Made once: to build a statement takes longer than to run it.
_NEW_JOB, _NEW_EVENT, _NEW_LINE = insert(jobs).returning(jobs), insert(events), insert(audit)
_OWNER = select(jobs.c.user).where(jobs.c.name == bindparam("wanted"))
_LIMITS = select(accounts.c.kind, accounts.c.name, accounts.c.max_queued).where(accounts.c.max_queued.is_not(None))


@dataclass(frozen=True)
class NewJob:
    """A job that somebody asks for; `uid` and `door` are for the audit trail."""

    name: str
    user: str
    group: str | None
    request: Mapping[str, Any]
    uid: int | None
    door: str


class Submit(Part):
    """Jobs on their way into the queue."""

    def submit_jobs(self, asked: Sequence[NewJob]) -> list[JobRow | UgroError]:
        """Record new jobs, each with its line in the audit trail, in one transaction.

        They outlive any process then. On SQLite the failure of power within the next moment may take them along, whole:
        `flush` writes them to the disk.

        Returns:
            For each the job, or why it was refused: its name is taken, its user's quota of jobs that have not ended is
            used up, or there is no job that it is to follow.
        """
        try:
            with self.database.write_soon() as connection:
                limits = _limits(connection)
                return [self._submit(connection, limits, one) for one in asked]
        except IntegrityError:  # PostgreSQL: another process has just taken one of the names
            if len(asked) == 1:
                return [_taken(asked[0].name, "another job")]
            return [found for one in asked for found in self.submit_jobs([one])]

    def flush(self) -> None:
        """Write to the disk what `submit_jobs` recorded.

        Raises:
            StateError: the disk does not take it.
        """
        self.database.flush()

    def interrupted(self) -> set[str]:
        """Return the names of jobs whose newest attempt has not ended: of one that waits the start broke off."""
        newest = select(attempts.c.job_id, func.max(attempts.c.id).label("id")).group_by(attempts.c.job_id).subquery()
        query = (
            select(jobs.c.name)
            .join(newest, newest.c.job_id == jobs.c.id)
            .join(attempts, attempts.c.id == newest.c.id)
            .where(jobs.c.status.not_in(ENDED), attempts.c.ended_at.is_(None))
        )
        with self.database.read() as connection:
            return set(connection.scalars(query))

    def is_free(self, name: str) -> bool:
        """Return whether no job has this name."""
        with self.database.read() as connection:
            return not connection.scalar(select(exists().where(jobs.c.name == name)))

    def _submit(
        self, connection: Connection, limits: Mapping[tuple[str, str], int], asked: NewJob
    ) -> JobRow | UgroError:
        request = asked.request
        try:
            for other in request.get("after") or ():
                self._job_id(connection, other)
            words = words_of(request)
            _check_limits(connection, limits, asked)
        except UgroError as error:
            return error
        taken = connection.execute(_OWNER, {"wanted": asked.name}).one_or_none()
        if taken is not None:
            return _taken(asked.name, f"a job of {taken.user}")
        at = now()
        values = {
            "name": asked.name, "user": asked.user, "request": without_words(request), "status": "pending",
            "unix_group": asked.group, "priority": request.get("priority", 50),
            "time_limit_s": request.get("time_limit_s"), "after": list(request.get("after") or ()),
            "held": bool(request.get("hold")), "held_by": asked.user if request.get("hold") else None,
            "created_at": at,
        }  # fmt: skip
        row = connection.execute(_NEW_JOB, values).one()
        keep_words(connection, row.id, request, words)
        event = {"at": at, "kind": "job_status", "severity": "info", "text": "pending", "job_id": row.id}
        connection.execute(_NEW_EVENT, event)
        line = {
            "at": at, "user": asked.user, "uid": asked.uid, "verb": "submit", "target": asked.name, "outcome": "done",
            "data": {"door": asked.door},
        }  # fmt: skip
        connection.execute(_NEW_LINE, line)
        return _job_row(row)


def _limits(connection: Connection) -> dict[tuple[str, str], int]:
    return {(row.kind, row.name): row.max_queued for row in connection.execute(_LIMITS)}


def _check_limits(connection: Connection, limits: Mapping[tuple[str, str], int], asked: NewJob) -> None:
    """Refuse a job of who has as many as the quota allows; those that enter with it count.

    Raises:
        RightsError: it is used up.
    """
    wanted = [("user", asked.user), *([("group", asked.group)] if asked.group is not None else [])]
    if not any(account in limits for account in wanted):
        return
    mine, theirs = jobs.c.user == asked.user, jobs.c.unix_group == asked.group
    query = select(func.count().filter(mine), func.count().filter(theirs)).where(
        jobs.c.status.not_in(ENDED), or_(mine, theirs)
    )
    refuse_over_quota(limits, asked.user, asked.group, *connection.execute(query).one())


def refuse_over_quota(
    limits: Mapping[tuple[str, str], int], user: str, group: str | None, of_user: int, of_group: int
) -> None:
    """Refuse a job of a user and group that have so many jobs that have not ended.

    Raises:
        RightsError: that is as many as the quota allows.
    """
    for kind, name, count in (("user", user, of_user), ("group", group or "", of_group)):
        most = limits.get((kind, name))
        if most is not None and count >= most:
            who = name if kind == "user" else f"group {name}"
            raise RightsError(
                "submit a job", f"quota: {who} has {count} of {most} jobs that have not ended",
                "wait for one to end, or take one out with `ugro queue cancel`",
            )  # fmt: skip


def _taken(name: str, by: str) -> NameTakenError:
    return NameTakenError(f"job name {name!r}", f"taken by {by}", "choose another with --name")
