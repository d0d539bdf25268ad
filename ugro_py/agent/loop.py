"""One round of the agent: adopt what lost its controller, decide who starts, say why the others wait."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection

from ugro_py.agent.jobs import Jobs
from ugro_py.cluster import Cluster
from ugro_py.queue import spool
from ugro_py.queue.actions import preempt as make_room
from ugro_py.queue.decide import decide
from ugro_py.queue.model import Decision
from ugro_py.queue.snapshot import snapshot_of
from ugro_py.request.job import NOT_AT_ONCE
from ugro_py.state import Controller, JobRow, Store

_log = logging.getLogger("ugro.agent")
# A job that is only just created gets its files, or its controller, in the same breath.
_NEWBORN_S = 5.0


class Loop:
    """What the agent does each second, and whenever something changed.

    Args:
        store: the state store.
        jobs: the jobs that this process controls.
        me: this process.
        former: controllers known to be gone that cannot be seen from here: agents of other hosts that lost the lease.
        check: raises where this process may not act any more.
    """

    def __init__(
        self,
        store: Store,
        jobs: Jobs,
        me: Controller,
        former: Collection[Controller],
        check: Callable[[], None],
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._me = me
        self._former = former
        self._check = check
        self._whole: set[str] = set()

    async def round(self, cluster: Cluster) -> None:
        """Do what is to be done now.

        Raises:
            StateError: the database cannot be used; nothing is half-done.
            LeaseLostError: this process may not act any more.
        """
        active = await asyncio.to_thread(self._store.jobs, active=True)
        self._check()
        ours = [job for job in active if self._is_orphan(job) and self._jobs.may(job)]
        waiting: dict[str, JobRow] = {}
        wait, whole = await asyncio.to_thread(self._waiting, ours)
        self._check()
        for job in ours:
            if job.name not in wait:
                self._jobs.adopt(job)
            elif job.stop_requested:
                self._jobs.end_waiting(job, "stopped", "stopped on request before it started")
            elif job.name in whole:
                waiting[job.name] = job
            elif _age_s(job) > _NEWBORN_S:
                self._jobs.adopt(job)  # nothing can be started: it is given up, and says why
        if any(job.status == "pending" for job in active):
            await self._schedule(cluster, waiting)

    def _waiting(self, ours: Collection[JobRow]) -> tuple[set[str], set[str]]:
        """Return which jobs wait in the queue, as `takeover.waits` says, and which of those have their files."""
        pending = {job.name for job in ours if job.status == "pending"}
        if not pending:
            return set(), set()
        wait = pending - self._store.interrupted()
        self._whole = {name for name in wait if name in self._whole or spool.exists(name)}
        return wait, self._whole

    async def _schedule(self, cluster: Cluster, ours: dict[str, JobRow]) -> None:
        decision = await asyncio.to_thread(self._decide, cluster)
        self._check()
        for start in decision.start:
            if start.job in ours:  # the others have a process of their own, which comes to the same decision
                self._jobs.start(ours[start.job], cluster, start)
        for fail in decision.fail:
            if fail.job in ours:
                self._jobs.end_waiting(ours[fail.job], "failed", fail.reason)
        hasty = [job for job in ours.values() if job.request.get("no_wait") and job.started_at is None]
        for job in hasty:
            if job.name in decision.reasons and self._jobs.may(job):
                why = f"{NOT_AT_ONCE}: {decision.reasons[job.name]}"
                self._jobs.end_waiting(job, "stopped", why)
        for preempt in decision.preempt:
            await asyncio.to_thread(make_room, self._store, preempt.job, preempt.for_job)

    def _decide(self, cluster: Cluster) -> Decision:
        decision = decide(snapshot_of(self._store, cluster, time.time()))
        self._store.note_reasons(decision.reasons)
        return decision

    def _is_orphan(self, job: JobRow) -> bool:
        """Return whether nobody controls the job, or this process should and has no task for it."""
        holder = job.controller
        if holder is None:  # handed over, or waiting
            return True
        return holder == self._me or holder.is_alive() is False or holder in self._former


def _age_s(job: JobRow) -> float:
    return time.time() - job.created_at.timestamp()
