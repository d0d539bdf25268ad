"""The second half of a job: follow it, retry it if asked, collect, release."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

from ugro_py import capsule, metrics, results
from ugro_py.cluster import Node
from ugro_py.collect import collect
from ugro_py.errors import UgroError
from ugro_py.launch import Launcher, start_job
from ugro_py.paths import JobPaths
from ugro_py.plan import Gang
from ugro_py.ready import Ready
from ugro_py.request import JobRequest
from ugro_py.state import Controller, Store
from ugro_py.transport import Session, close_all
from ugro_py.watch import Listener, Outcome, Watcher


async def run_job(launcher: Launcher) -> Outcome:
    """Launch a job and stay with it to the end, retries included."""
    ready, gang = await start_job(launcher)
    return await _stay(launcher, ready, gang)


async def _stay(launcher: Launcher, ready: Ready, gang: Gang) -> Outcome:
    """Follow attempts until one completes, is stopped, or no retry is left."""
    try:
        while True:
            await asyncio.to_thread(
                capsule.write, gang, launcher.request, launcher.cluster, ready.nodes, ready.reports, launcher.user,
                launcher.code.digest,
            )  # fmt: skip
            outcome = await follow(launcher.store, gang, ready.nodes, ready.sessions, launcher.request, launcher.tell)
            if not _try_again(outcome, gang, launcher.request):
                break
            launcher.tell("step", {"text": f"attempt {gang.attempt} failed: {outcome.reason}; trying again"})
            await finish_attempt(launcher.store, gang, ready.nodes, ready.sessions, outcome)
            await close_all(ready.sessions.values())
            launcher.store.release(gang.job)
            ready = await launcher.ready()
            gang = launcher.next_attempt(ready)
            await launcher.start(ready, gang)
        await finish(launcher.store, gang, ready.nodes, ready.sessions, outcome, launcher.controller, launcher.tell)
    except UgroError as error:
        launcher.end("failed", str(error), error.exit_code)
        raise
    finally:
        await close_all(ready.sessions.values())
    return outcome


def _try_again(outcome: Outcome, gang: Gang, request: JobRequest) -> bool:
    """Say whether another attempt is due: as often as asked, and once more where the port was taken meanwhile."""
    if outcome.status != "failed":
        return False
    port_taken = any("EADDRINUSE" in line or "address already in use" in line.lower() for line in outcome.last_lines)
    return gang.attempt <= max(request.retry, 1 if port_taken else 0)


async def follow(
    store: Store,
    gang: Gang,
    nodes: Mapping[str, Node],
    sessions: dict[str, Session],
    request: JobRequest,
    tell: Listener,
) -> Outcome:
    """Follow one attempt to its end; what it used of the nodes is free then."""
    outcome = await Watcher(store, gang, nodes, sessions, tell, request.stall_timeout_s).run()
    close_attempt(store, gang, outcome)
    return outcome


def close_attempt(store: Store, gang: Gang, outcome: Outcome) -> None:
    """Record how an attempt ended."""
    store.set_attempt(
        gang.job, gang.attempt, status=outcome.status, reason=outcome.reason, ended_at=datetime.now(UTC)
    )  # fmt: skip


async def finish_attempt(
    store: Store, gang: Gang, nodes: Mapping[str, Node], sessions: Mapping[str, Session], outcome: Outcome
) -> None:
    """Bring in what an attempt left on the nodes; what cannot be had is an event, not the end of the job."""
    alive = {name: session for name, session in sessions.items() if name not in outcome.lost_nodes}
    for problem in await collect(gang, nodes, alive):
        store.add_event("collect_failed", problem, job=gang.job, severity="error")
    metrics.rebuild(JobPaths(gang.job))


async def finish(
    store: Store,
    gang: Gang,
    nodes: Mapping[str, Node],
    sessions: Mapping[str, Session],
    outcome: Outcome,
    controller: Controller,
    tell: Listener,
) -> None:
    """Release the GPUs, collect, and record how the job ended."""
    store.release(gang.job)
    store.set_job(gang.job, "collecting")
    tell("step", {"text": "collecting results"})
    await finish_attempt(store, gang, nodes, sessions, outcome)
    store.set_job(gang.job, outcome.status, outcome.reason, outcome.exit_code)
    results.write_notes(gang.job, store)
    store.unclaim(gang.job, controller)
