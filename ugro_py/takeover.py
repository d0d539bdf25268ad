"""Take over a job whose controller is gone: after a detach, a kill, or a reboot of the master."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping
from itertools import takewhile

from ugro_py import late
from ugro_py.errors import NodeError
from ugro_py.finish import close_attempt
from ugro_py.gang import Outcome
from ugro_py.launch import Launcher
from ugro_py.plan import Gang
from ugro_py.queue import spool, wait
from ugro_py.queue.start import tidy
from ugro_py.request.job import JobRequest
from ugro_py.run import stay
from ugro_py.saved import load_gang, nodes_of
from ugro_py.state import Controller, JobRow, Store
from ugro_py.transport import Session, close_all, open_sessions
from ugro_py.watch import Listener

# A job whose start was interrupted so often in a row has failed; before, it goes back to the queue.
_INTERRUPTED_STARTS = 5
_ROLLED_BACK = "rolled back"


async def adopt(
    store: Store, job: JobRow, controller: Controller, tell: Listener, start_error: str | None = None
) -> Outcome:
    """Take over a job whose controller is gone, and stay with it to the end.

    A launch that was not complete is rolled back: everything that had started is stopped, and the job waits for its
    turn again (the outcome is `pending` then) or, where its files were not kept, has failed. `start_error` says that it
    was not, and why.

    Raises:
        LostControlError: yet another controller has it.
        UgroError: something broke; that the job has failed is recorded.
    """
    store = store.acting_as(controller)
    attempt = await store.patiently(store.attempt, job.name)
    loaded = load_gang(job.name, attempt.number) if attempt else None
    if loaded is None:
        reason = "its controller ended before anything was started"
        return await store.patiently(_start_anew, store, job, controller, reason)
    gang, cluster = loaded
    nodes = nodes_of(gang, cluster)
    launcher = Launcher(JobRequest.from_dict(job.request), cluster, store, job.user, tell, controller)
    opened = await open_sessions([nodes[name] for name in gang.nodes])
    sessions = {name: session for name, session in opened.items() if isinstance(session, Session)}
    lost = [(name, session.came_back) for name, session in opened.items() if isinstance(session, NodeError)]
    try:
        may_be_partial = await store.patiently(_may_be_partial, store, job, gang.attempt)
        if start_error or (may_be_partial and not await _all_started(gang, sessions)):
            await late.end_partly_started(launcher, gang, nodes, sessions)
            await store.patiently(close_attempt, store, gang, Outcome("failed", _ROLLED_BACK, 1))
            if not start_error and await store.patiently(_failed, store, job.name, gang.attempt - 1):
                # A retry was on its way: it is made once more, from where the attempt before it had come to, unless
                # the job is to stop. What that attempt left on its nodes is brought in either way.
                tell("step", {"text": f"attempt {gang.attempt} had not started everywhere"})
                return await stay(launcher, gang, nodes, sessions, lost, ended=Outcome("failed", _ROLLED_BACK, 1))
            for name, why in lost:  # who collects the job asks these too
                text = f"{name}: not reached ({why}); what attempt {gang.attempt} wrote lies there"
                await store.patiently(
                    store.add_event, "collect_failed", text, job=job.name, node=name, severity="error"
                )  # fmt: skip
            if start_error:
                return await store.patiently(give_up, store, job.name, controller, f"{start_error}; rolled back")
            reason = "its controller ended in mid-launch; rolled back"
            return await store.patiently(_start_anew, store, job, controller, reason)
        return await stay(launcher, gang, nodes, sessions, lost)
    finally:
        await close_all(sessions.values())
        await asyncio.to_thread(tidy, store, job.name)


def _failed(store: Store, job: str, number: int) -> bool:
    """Say whether an attempt failed by itself, so that the one after it is a retry; not one that was rolled back."""
    return any(failure.get("attempt") == number for failure in store.failures(job))


def give_up(store: Store, job: str, controller: Controller, reason: str, status: str = "failed") -> Outcome:
    """End a job of which nothing runs: release what it holds, record why and what is left of it, let go of it."""
    store = store.acting_as(controller)
    code = 1 if status == "failed" else 0
    late.note_uncollected(store, job)
    store.release(job)
    store.set_job(job, status, reason, code)
    store.unclaim(job, controller)
    return Outcome(status, reason, code)


def _start_anew(store: Store, job: JobRow, controller: Controller, reason: str) -> Outcome:
    """Put a job whose start was interrupted back into the queue; too often, or without its files, it has failed."""
    attempt = store.attempt(job.name)
    if attempt and attempt.ended_at is None:
        store.set_attempt(job.name, attempt.number, status="failed", reason=_ROLLED_BACK)
    tried = [store.attempt(job.name, number) for number in range(attempt.number, 0, -1)] if attempt else []
    interrupted = len(list(takewhile(lambda one: one is not None and one.reason == _ROLLED_BACK, tried)))
    if job.stop_requested:
        return give_up(store, job.name, controller, "stopped on request before it started", "stopped")
    if interrupted >= _INTERRUPTED_STARTS or not spool.exists(job.name):
        return give_up(store, job.name, controller, reason)
    store.release(job.name)
    store.set_waiting(job.name, f"{reason}; waits for its turn again")
    return Outcome("pending", reason)


def _may_be_partial(store: Store, job: JobRow, number: int) -> bool:
    """Say whether an attempt may not have started everywhere, as far as the store knows.

    A job that is said to run, though no rank of this attempt ever did, says it of the attempt before.
    """
    if job.status == "running":
        return all(rank.pid is None for rank in store.ranks(job.name, number))
    return job.status in ("pending", "starting")


async def _all_started(gang: Gang, sessions: Mapping[str, Session]) -> bool:
    if set(sessions) != set(gang.nodes):
        return False
    states = await asyncio.gather(
        *(session.call("status", job=gang.job, attempt=gang.attempt) for session in sessions.values())
    )
    return all(state["state"] not in ("absent", "standby") for state in states)


def adopt_now(name: str, tell: Listener | None = None) -> Outcome | None:
    """Become the controller of a job in this process and run it to its end; None if somebody else controls it."""
    with contextlib.closing(Store.open()) as store:
        job = store.job(name)
        if not job.active:
            return None
        if job.controller is not None and job.controller.is_alive() is not False:
            return None
        controller = Controller.me(replaces=job.controller)
        if not store.claim(name, controller):
            return None
        store.add_event("adopted", f"process {os.getpid()} took over", job=name)
        return asyncio.run(_to_its_end(store, job, controller, tell or (lambda kind, data: None)))


async def _to_its_end(store: Store, job: JobRow, controller: Controller, tell: Listener) -> Outcome:
    """Take a job over and stay with it, also while it waits in the queue, now or again."""
    outcome = Outcome("pending")
    if not waits(store, job):
        outcome = await adopt(store, job, controller, tell)
    while outcome.status == "pending" and store.job(job.name).controller == controller:
        outcome = await wait.take_over(store, store.job(job.name), controller, tell)
    return outcome


def waits(store: Store, job: JobRow) -> bool:
    """Return whether a job waits in the queue, and is not one whose start was interrupted."""
    if job.status != "pending":
        return False
    attempt = store.attempt(job.name)
    return attempt is None or attempt.ended_at is not None
