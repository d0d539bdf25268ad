"""Jobs in the store, and who controls them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, false, insert, null, select, true, update
from sqlalchemy.exc import IntegrityError

from ugro_py.errors import StateError, UsageError
from ugro_py.names import check_name
from ugro_py.state._base import Part, now
from ugro_py.state._experiments import keep_words, without_words, words_of
from ugro_py.state._queue import holds_loosely
from ugro_py.state.models import ENDED, JOB_STATUSES, jobs, leases
from ugro_py.state.rows import Controller, JobRow


class Jobs(Part):
    """Jobs from their request to their end."""

    def create_job(self, name: str, user: str, request: Mapping[str, Any], *, group: str | None = None) -> JobRow:
        """Record a new job with status `pending`. `request` is what was asked for, as JSON values.

        What the queue needs to know (`priority`, `hold`, `after`, `time_limit_s`) is taken from the request.

        Raises:
            UsageError: the name is not valid or another job has it; or a tag or the note is not valid.
        """
        check_name(name)
        words = words_of(request)
        values = {
            "name": name, "user": user, "request": without_words(request), "status": "pending", "unix_group": group,
            "priority": request.get("priority", 50), "time_limit_s": request.get("time_limit_s"),
            "after": list(request.get("after") or ()), "held": bool(request.get("hold")),
            "held_by": user if request.get("hold") else None,
        }  # fmt: skip
        try:
            with self.database.write() as connection:
                result = connection.execute(insert(jobs).values(created_at=now(), **values).returning(jobs))
                row = result.one()
                keep_words(connection, row.id, request, words)
                self._event(connection, "job_status", "pending", job_id=row.id)
        except IntegrityError as error:
            other = self.job(name)
            raise UsageError(
                f"job name {name!r}",
                f"taken by the {other.status} job of {other.user} ({other.created_at:%Y-%m-%d %H:%M} UTC)",
                "choose another with --name",
            ) from error
        return _job_row(row)

    def job(self, name: str) -> JobRow:
        """Return the job called `name`.

        Raises:
            NotFoundError: there is none; the message names the closest ones.
        """
        with self.database.read() as connection:
            job_id = self._job_id(connection, name)
            return _job_row(connection.execute(select(jobs).where(jobs.c.id == job_id)).one())

    def jobs(self, *, active: bool | None = None, limit: int | None = None, before: str | None = None) -> list[JobRow]:
        """Return jobs, newest first; `active` True or False keeps those that run or have ended.

        With `before` only those that were submitted before the job of that name; NotFoundError if there is none.
        """
        query = select(jobs).order_by(jobs.c.id.desc()).limit(limit)
        if active is not None:
            ended = jobs.c.status.in_(ENDED)
            query = query.where(~ended if active else ended)
        with self.database.read() as connection:
            if before is not None:
                query = query.where(jobs.c.id < self._job_id(connection, before))
            return [_job_row(row) for row in connection.execute(query)]

    def set_job(self, job: str, status: str, reason: str = "", exit_code: int | None = None) -> None:
        """Move a job to `status` and record why; an event is added if anything changed.

        `started_at` is set when the job first becomes `running`, `ended_at` when it is completed,
        failed or stopped (and cleared when it is started again). With the job all its attempts have ended.

        Raises:
            LostControlError: see `Store.acting_as`.
            NotFoundError: there is no such job.
            ValueError: the status is none of `JOB_STATUSES`.
        """
        if status not in JOB_STATUSES:
            raise ValueError(f"{status!r} is not a job status")
        with self.database.write() as connection:
            job_id = self._controlled(connection, job)
            old = connection.execute(select(jobs).where(jobs.c.id == job_id)).one()
            if (old.status, old.reason, old.exit_code) == (status, reason, exit_code):
                return
            values: dict[str, Any] = {"status": status, "reason": reason, "exit_code": exit_code}
            if status == "running" and old.started_at is None:
                values["started_at"] = now()
            if status not in ENDED:
                values["ended_at"] = None
            elif old.status not in ENDED:
                values["ended_at"] = now()
            if status in ENDED:
                self._end_attempts(connection, job_id, status, reason)
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values))
            text = f"{old.status} -> {status}" + (f": {reason}" if reason else "")
            severity = "error" if status == "failed" else "info"
            self._event(connection, "job_status", text, job_id=job_id, severity=severity)

    def set_waiting(self, job: str, reason: str, *, held_by: str | None = None) -> None:
        """Let a job wait (again) in the queue and say what for; with `held_by` nobody starts it until it is released.

        An event is added where that is news: not for a reason alone, which changes with every other job.

        Raises:
            LostControlError: see `Store.acting_as`.
            NotFoundError: there is no such job.
        """
        with self.database.write() as connection:
            job_id = self._controlled(connection, job)
            old = connection.execute(select(jobs).where(jobs.c.id == job_id)).one()
            if old.status in ENDED:
                return  # stopped or cancelled meanwhile
            values: dict[str, Any] = {"status": "pending", "reason": reason}
            if held_by is not None:
                values |= {"held": True, "held_by": held_by}
            self._end_attempts(connection, job_id, "failed", reason)
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values))
            if old.status != "pending" or (held_by is not None and not old.held):
                kind = "held" if held_by is not None else "requeued"
                self._event(connection, kind, reason, job_id=job_id, severity="warning")

    def reopen(self, job: str, reason: str = "", *, time_limit_s: float | None = None, max_priority: int = 100) -> bool:
        """Put a job that has ended back into the queue; return whether that worked (it has not ended, if not).

        `time_limit_s` replaces its limit, which counts the time that all its attempts run together. A priority above
        `max_priority` comes down to it. Who held the job holds it still, unless that was its owner.

        Raises:
            NotFoundError: there is no such job.
        """
        with self.database.write() as connection:
            job_id = self._job_id(connection, job, lock=True)
            old = connection.execute(select(jobs).where(jobs.c.id == job_id)).one()
            values: dict[str, Any] = {
                "status": "pending", "reason": reason, "exit_code": None, "ended_at": None, "stop_requested": False,
                "stop_force": False, "held": old.held and not holds_loosely(old.held_by, old.user), "position": None,
                "after": [], "preempt_for": None, "priority": min(old.priority, max_priority),
            }  # fmt: skip
            if time_limit_s is not None:
                request = {**old.request, "time_limit_s": time_limit_s}
                values |= {"time_limit_s": time_limit_s, "request": request}
            again = update(jobs).where(jobs.c.id == job_id, jobs.c.status.in_(ENDED)).values(**values)
            if connection.execute(again).rowcount != 1:
                return False
            # One that broke off while it started has an attempt that nobody ended.
            self._end_attempts(connection, job_id, "failed", "")
            self._event(connection, "resumed", reason or "back in the queue", job_id=job_id)
            return True

    def request_stop(self, job: str, force: bool = False) -> None:
        """Ask whoever controls the job to stop it; nothing happens if it has ended.

        Raises:
            NotFoundError: there is no such job.
        """
        with self.database.write() as connection:
            job_id = self._job_id(connection, job, lock=True)
            old = connection.execute(select(jobs).where(jobs.c.id == job_id)).one()
            if old.status in ENDED or (old.stop_requested and old.stop_force >= force):
                return
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(stop_requested=True, stop_force=force))
            text = "stop by force asked" if force else "stop asked"
            self._event(connection, "stop_requested", text, job_id=job_id)

    def claim(self, job: str, controller: Controller) -> bool:
        """Become the controller of a job; return whether that worked.

        It works if the job has no controller, if `controller` is it already, or if its present one is
        `controller.replaces` (which the caller found dead). Of several that try, one wins. A store that acts under a
        lease claims nothing once that lease is another's.

        Raises:
            NotFoundError: there is no such job.
        """
        free = jobs.c.controller_pid.is_(None)
        replaces = _held_by(controller.replaces) if controller.replaces else false()
        mine = self._lease_is_mine()
        with self.database.write() as connection:
            job_id = self._job_id(connection, job)
            result = connection.execute(
                update(jobs)
                .where(jobs.c.id == job_id, free | _held_by(controller) | replaces, mine)
                .values(
                    controller_host=controller.host,
                    controller_boot_id=controller.boot_id,
                    controller_pid=controller.pid,
                    controller_start_ticks=controller.start_ticks,
                )
            )
            return result.rowcount == 1

    def check_control(self, job: str) -> None:
        """Raise if this store acts for a controller that the job does not have any more: ask before touching nodes.

        A database that is away says nothing: nobody can have taken the job there.

        Raises:
            LostControlError: it does not have it.
            NotFoundError: there is no such job.
        """
        if self.fence is None:
            return
        self.fence.check_valid(job)
        with contextlib.suppress(StateError), self.database.read() as connection:
            job_id = self._job_id(connection, job)
            self.fence.check(job, connection.execute(select(jobs).where(jobs.c.id == job_id)).one())

    def _lease_is_mine(self) -> Any:
        """Return the condition that the lease under which this store acts has not been taken or given back."""
        lease = self.fence.lease if self.fence else None
        if lease is None:
            return true()
        mine = (leases.c.name == lease.name) & (leases.c.term == lease.term) & (leases.c.duration_s > 0)
        return select(leases.c.name).where(mine).exists()

    def unclaim(self, job: str, controller: Controller) -> None:
        """Give a job up; nothing happens if `controller` does not control it."""
        with self.database.write() as connection:
            connection.execute(
                update(jobs)
                .where(jobs.c.name == job, _held_by(controller))
                .values(
                    controller_host=null(),
                    controller_boot_id=null(),
                    controller_pid=null(),
                    controller_start_ticks=null(),
                )
            )


def _held_by(controller: Controller) -> Any:
    return (
        (jobs.c.controller_host == controller.host)
        & (jobs.c.controller_boot_id == controller.boot_id)
        & (jobs.c.controller_pid == controller.pid)
        & (jobs.c.controller_start_ticks == controller.start_ticks)
    )


def _job_row(row: Row[Any]) -> JobRow:
    controller = None
    if row.controller_pid is not None:
        controller = Controller(
            row.controller_host, row.controller_boot_id, row.controller_pid, row.controller_start_ticks
        )
    return JobRow(
        name=row.name,
        user=row.user,
        status=row.status,
        reason=row.reason,
        exit_code=row.exit_code,
        request=row.request,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        controller=controller,
        stop_requested=row.stop_requested,
        stop_force=row.stop_force,
        priority=row.priority,
        position=row.position,
        held=row.held,
        held_by=row.held_by,
        after=tuple(row.after or ()),
        time_limit_s=row.time_limit_s,
        preempted=row.preempted,
        group=row.unix_group,
    )
