"""The jobs that the agent controls: a task for each. What goes wrong in one never reaches another."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ugro_py import late, takeover
from ugro_py.cluster import Cluster
from ugro_py.errors import StateError, UgroError
from ugro_py.gang import Outcome
from ugro_py.queue.model import Start
from ugro_py.queue.start import run_queued
from ugro_py.state import Controller, JobRow, Store
from ugro_py.state._leases import Lease
from ugro_py.state.away import AwayError
from ugro_py.state.fence import LostControlError
from ugro_py.state.later import Later
from ugro_py.users import cluster_for

_log = logging.getLogger("ugro.agent")
_BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 15.0, 60.0)
_QUIET_AFTER_S = 300.0
_AWAY_PAUSE_S = 2.0
TRIES = 10
"""So many times in a row a job is taken up anew after its task broke; that takes five minutes. Then it has failed."""


@dataclass
class _Trouble:
    """How often a job's task failed, and until when it is let be."""

    failures: int
    until: float
    since: float
    what: str


class Jobs:
    """The jobs that this process controls.

    Args:
        store: the state store.
        me: this process, as the controller that the store knows.
        changed: called when a task has ended: GPUs may be free.
        may_act: says whether this process may still act for any job.
        lease: under which it acts.
    """

    def __init__(
        self,
        store: Store,
        me: Controller,
        changed: Callable[[], None],
        may_act: Callable[[], bool] | None = None,
        lease: Lease | None = None,
    ) -> None:
        self._store = store
        self._theirs = store.acting_as(me, may_act, lease)
        self._me = me
        self._changed = changed
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._trouble: dict[str, _Trouble] = {}
        self.sweep: Callable[[], Awaitable[object]] | None = None
        """Ends on the nodes what runs of jobs that are over."""

    def names(self) -> list[str]:
        """Return the jobs that have a task."""
        return sorted(self._tasks)

    def may(self, job: JobRow) -> bool:
        """Return whether a task can be made for the job now: it has none, and did not just fail or is to be stopped."""
        trouble = self._trouble.get(job.name)
        due = trouble is None or trouble.until <= asyncio.get_running_loop().time()
        return job.name not in self._tasks and (due or (job.stop_requested and trouble is not None))

    def adopt(self, job: JobRow) -> None:
        """Take over a job whose controller is gone; one that cannot be followed is ended where it is to be stopped."""
        trouble = self._trouble.get(job.name)
        if trouble is not None and trouble.failures and (job.stop_requested or trouble.failures >= TRIES):
            self._run(job, functools.partial(self._give_up, job, trouble))
            return

        async def work(controller: Controller) -> Outcome:
            if job.controller != self._me:
                text, data = f"process {os.getpid()} took over", {"pid": os.getpid()}
                await self._store.patiently(self._store.add_event, "adopted", text, job=job.name, data=data)
            return await takeover.adopt(self._theirs, job, controller, _listener(self._store, job.name))

        self._run(job, work)

    async def _give_up(self, job: JobRow, trouble: _Trouble, controller: Controller) -> Outcome:
        """End a job that cannot be followed: record it, then end what runs of it; what it wrote lies on its nodes."""
        status, reason = "failed", f"it could not be followed {trouble.failures} times; last: {trouble.what}"
        if job.stop_requested:
            status, reason = "stopped", f"stopped on request; it could not be followed: {trouble.what}"
        outcome = await self._store.patiently(self._end, job.name, controller, status, reason)
        if self.sweep is not None:
            await self.sweep()
        return outcome

    def _end(self, job: str, controller: Controller, status: str, reason: str) -> Outcome:
        if not late.uncollected(self._theirs, job):  # else it is told of as the job is given up
            late.note_left(self._theirs, job)
        attempt = self._theirs.attempt(job)
        if attempt is not None and attempt.ended_at is None:
            self._theirs.set_attempt(job, attempt.number, status=status, reason=reason)
        return takeover.give_up(self._theirs, job, controller, reason, status)

    def start(self, job: JobRow, cluster: Cluster, start: Start) -> None:
        """Start a job whose turn has come."""

        async def work(controller: Controller) -> Outcome:
            theirs = cluster_for(cluster, job.user)
            return await run_queued(self._theirs, theirs, job, start, controller, _listener(self._store, job.name))

        self._run(job, work)

    def end_waiting(self, job: JobRow, status: str, reason: str) -> None:
        """End a job that never started."""

        async def work(controller: Controller) -> Outcome:
            return await self._store.patiently(
                takeover.give_up, self._theirs, job.name, controller, reason, status
            )  # fmt: skip

        self._run(job, work)

    async def leave(self) -> None:
        """End every task; the jobs go on, and whoever comes next adopts them."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _run(self, job: JobRow, work: Callable[[Controller], Awaitable[Outcome]]) -> None:
        self._tasks[job.name] = asyncio.create_task(self._keep(job, work), name=f"job {job.name}")

    async def _keep(self, job: JobRow, work: Callable[[Controller], Awaitable[Outcome]]) -> None:
        """Control a job to its end, or until something breaks: then it is adopted anew after a pause."""
        try:
            replaces = job.controller if job.controller != self._me else None
            controller = Controller(self._me.host, self._me.boot_id, self._me.pid, self._me.start_ticks, replaces)
            if not await self._store.patiently(self._claim, job.name, controller):
                return
            outcome = await work(controller)
            _log.info("job %s: %s %s", job.name, outcome.status, outcome.reason)
            self._trouble.pop(job.name, None)
        except LostControlError as error:
            _log.warning("job %s: %s", job.name, error)
        except AwayError as error:  # no fault of the job: it is taken up again as soon as the database works
            old = self._trouble.get(job.name)
            now = asyncio.get_running_loop().time()
            self._trouble[job.name] = _Trouble(old.failures if old else 0, now + _AWAY_PAUSE_S, now, str(error))
            _log.error("job %s: %s", job.name, error)
        except UgroError as error:
            await self._failed(job.name, str(error))
        except Exception as error:  # noqa: BLE001  an event; its ranks train on, and are adopted again
            _log.exception("job %s: its task failed", job.name)
            await self._failed(job.name, f"{type(error).__name__}: {error}")
        finally:
            del self._tasks[job.name]
            self._changed()

    def _claim(self, job: str, controller: Controller) -> bool:
        """Become the controller of a job that has not ended since the round that found it without one had begun."""
        if not self._theirs.claim(job, controller):
            return False
        if not self._theirs.job(job).active:
            self._theirs.unclaim(job, controller)
            return False
        return True

    async def _failed(self, job: str, what: str) -> None:
        now = asyncio.get_running_loop().time()
        old = self._trouble.get(job)
        failures = old.failures + 1 if old and now - old.since < _QUIET_AFTER_S else 1
        pause = _BACKOFF_S[min(failures, len(_BACKOFF_S)) - 1]
        self._trouble[job] = _Trouble(failures, now + pause, now, what)
        _log.error("job %s: %s", job, what)
        with contextlib.suppress(StateError, LostControlError):
            await self._store.patiently(self._note, job, what, failures, pause)

    def _note(self, job: str, what: str, failures: int, pause: float) -> None:
        if not self._store.job(job).active:
            return
        again = f"taken up again in {pause:g} s ({failures} of {TRIES} times)" if failures < TRIES else "it is given up"
        text = f"following it failed: {what}; {again}"
        self._theirs.note_reason(job, text)
        self._theirs.add_event("task_failed", text, job=job, severity="error")


def _listener(store: Store, job: str) -> Callable[[str, Mapping[str, Any]], None]:
    later = Later(store, lambda: None)

    def tell(kind: str, data: Mapping[str, Any]) -> None:
        if kind in ("step", "warning", "failed"):
            _log.info("job %s: %s", job, data["text"])
        elif kind == "suspect":
            _log.warning("job %s: %s is silent", job, data["node"])
        if kind in ("step", "warning"):  # what somebody who launched it sees
            severity = "info" if kind == "step" else "warning"
            later.write(store.add_event, kind, data["text"], job=job, severity=severity)

    return tell
