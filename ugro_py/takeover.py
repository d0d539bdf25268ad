"""Take over a job whose controller is gone: after a detach, a kill, or a reboot of the master."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping

from ugro_py.errors import NodeError
from ugro_py.gang import Outcome
from ugro_py.launch import Launcher
from ugro_py.plan import Gang
from ugro_py.request import JobRequest
from ugro_py.run import close_attempt, stay
from ugro_py.saved import load_gang, nodes_of
from ugro_py.state import Controller, JobRow, Store
from ugro_py.transport import Session, close_all, open_sessions
from ugro_py.watch import Listener


async def adopt(
    store: Store, job: JobRow, controller: Controller, tell: Listener, start_error: str | None = None
) -> Outcome:
    """Take over a job whose controller is gone, and stay with it to the end.

    A launch that was not complete is rolled back: everything that had started is stopped. `start_error` says that it
    was not, and why.
    """
    attempt = store.attempt(job.name)
    loaded = load_gang(job.name, attempt.number) if attempt else None
    if loaded is None:
        return _give_up(store, job.name, controller, "its controller ended before anything was started")
    gang, cluster = loaded
    nodes = nodes_of(gang, cluster)
    launcher = Launcher(JobRequest.from_dict(job.request), cluster, store, job.user, tell, controller)
    opened = await open_sessions([nodes[name] for name in gang.nodes])
    sessions = {name: session for name, session in opened.items() if isinstance(session, Session)}
    lost = [(name, session.came_back) for name, session in opened.items() if isinstance(session, NodeError)]
    try:
        if start_error or (job.status in ("pending", "starting") and not await _all_started(gang, sessions)):
            await launcher.stop_started(gang, sessions, forget=True)
            close_attempt(store, gang, Outcome("failed", "rolled back", 1))
            reason = start_error or "its controller ended in mid-launch"
            return _give_up(store, job.name, controller, f"{reason}; rolled back")
        return await stay(launcher, gang, nodes, sessions, lost)
    finally:
        await close_all(sessions.values())


def _give_up(store: Store, job: str, controller: Controller, reason: str) -> Outcome:
    store.release(job)
    store.set_job(job, "failed", reason, 1)
    store.unclaim(job, controller)
    return Outcome("failed", reason, 1)


async def _all_started(gang: Gang, sessions: Mapping[str, Session]) -> bool:
    if set(sessions) != set(gang.nodes):
        return False
    states = await asyncio.gather(
        *(session.call("status", job=gang.job, attempt=gang.attempt) for session in sessions.values())
    )
    return all(state["state"] != "absent" for state in states)


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
        return asyncio.run(adopt(store, job, controller, tell or (lambda kind, data: None)))
