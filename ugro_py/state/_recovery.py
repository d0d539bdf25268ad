"""Recovery in the store: preemption, and how the attempts of a job ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import null, select, update

from ugro_py.state._base import Part, now
from ugro_py.state.models import ENDED, attempts, events, jobs

_FAILED = "attempt_failed"
COLLECTING, ATTEMPT_COLLECTED, COLLECTED = COLLECT_KINDS = ("collecting", "attempt_collected", "collected")
"""Kinds of events: what an attempt (its number in `data`) wrote is being brought in; it is here; all of the job is."""


class Recovery(Part):
    """What a job's controller has to know when an attempt of it has ended, or is to end for another job."""

    def request_preempt(self, job: str, for_job: str) -> bool:
        """Ask a job's controller to stop it with a checkpoint and queue it again, so that `for_job` can start.

        Returns:
            Whether this call asked: False if the job has ended, or was asked before.

        Raises:
            NotFoundError: there is no such job.
        """
        with self.database.write() as connection:
            job_id = self._job_id(connection, job, lock=True)
            asked = update(jobs).where(
                jobs.c.id == job_id, jobs.c.preempt_for.is_(None), jobs.c.status.not_in((*ENDED, "pending"))
            )
            if connection.execute(asked.values(preempt_for=for_job)).rowcount != 1:
                return False
            self._event(connection, "preempt_requested", f"makes room for {for_job}", job_id=job_id)
            return True

    def preempt_for(self, job: str) -> str | None:
        """Return the job for which this one is to make room, None if it may go on.

        Raises:
            NotFoundError: there is no such job.
        """
        with self.database.read() as connection:
            job_id = self._job_id(connection, job)
            name: str | None = connection.scalar(select(jobs.c.preempt_for).where(jobs.c.id == job_id))
            return name

    def requeue(self, job: str, reason: str, *, preempted: bool = False) -> None:
        """Put a job that ran back into the queue, its GPUs free, its place by priority and age kept.

        Nothing happens to a job that has ended. `preempted` counts it as such.

        Raises:
            LostControlError: see `Store.acting_as`.
            NotFoundError: there is no such job.
        """
        with self.database.write() as connection:
            job_id = self._controlled(connection, job)
            self._end_attempts(connection, job_id, "failed", reason)
            values: dict[str, Any] = {"status": "pending", "reason": reason, "preempt_for": null()}
            if preempted:
                values["preempted"] = jobs.c.preempted + 1
            again = update(jobs).where(jobs.c.id == job_id, jobs.c.status.not_in(ENDED)).values(**values)
            if connection.execute(again).rowcount == 1:
                kind = "preempted" if preempted else "requeued"
                self._event(connection, kind, reason, job_id=job_id, severity="warning")

    def add_failure(self, job: str, attempt: int, data: Mapping[str, Any], text: str) -> None:
        """Keep how an attempt failed, once: who takes the job over may find it anew.

        Raises:
            LostControlError: see `Store.acting_as`.
            NotFoundError: there is no such job.
        """
        if any(known.get("attempt") == attempt for known in self.failures(job)):
            return
        with self.database.write() as connection:
            job_id = self._controlled(connection, job)
            values = {**data, "attempt": attempt}
            self._event(connection, _FAILED, text, job_id=job_id, severity="error", data=values)

    def note_reason(self, job: str, reason: str) -> None:
        """Keep what keeps a job that runs from being followed; "" where nothing does. Makes no event.

        Raises:
            LostControlError: see `Store.acting_as`.
            NotFoundError: there is no such job.
        """
        with self.database.write() as connection:
            job_id = self._controlled(connection, job)
            runs = jobs.c.status.not_in((*ENDED, "pending"))
            connection.execute(update(jobs).where(jobs.c.id == job_id, runs).values(reason=reason))

    def failures(self, job: str) -> list[Mapping[str, Any]]:
        """Return what `add_failure` kept of a job, in order.

        Raises:
            NotFoundError: there is no such job.
        """
        with self.database.read() as connection:
            job_id = self._job_id(connection, job)
            query = select(events.c.data).where(events.c.job_id == job_id, events.c.kind == _FAILED)
            return [data for data in connection.scalars(query.order_by(events.c.id)) if data]

    def run_seconds(self, job: str) -> float:
        """Return how long attempts of a job have run, all together, up to now.

        Raises:
            NotFoundError: there is no such job.
        """
        with self.database.read() as connection:
            job_id = self._job_id(connection, job)
            rows = connection.execute(
                select(attempts.c.started_at, attempts.c.ended_at).where(attempts.c.job_id == job_id)
            ).all()
        return float(sum(((row.ended_at or now()) - row.started_at).total_seconds() for row in rows))


def uncollected(told: Iterable[tuple[str, Mapping[str, Any] | None]]) -> set[int]:
    """Return the attempts that somebody began to collect and never ended to, by events of `COLLECT_KINDS` in order."""
    begun: set[int] = set()
    for kind, data in told:
        if kind == COLLECTED:
            begun.clear()
        else:
            (begun.add if kind == COLLECTING else begun.discard)((data or {})["attempt"])
    return begun
