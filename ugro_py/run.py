"""The second half of a job: follow it, retry it if asked, collect, release."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from ugro_py import checkpoints, metrics, results
from ugro_py.cluster import Node
from ugro_py.collect import collect
from ugro_py.errors import StateError, UgroError
from ugro_py.gang import Outcome
from ugro_py.launch import Launcher, start_job
from ugro_py.paths import JobPaths
from ugro_py.plan import Gang
from ugro_py.ready import Ready
from ugro_py.request import JobRequest
from ugro_py.state import Controller, Store
from ugro_py.state.models import ENDED
from ugro_py.transport import Session, close_all
from ugro_py.watch import Listener, Watcher

Lost = Sequence[tuple[str, str]]


async def run_job(launcher: Launcher) -> Outcome:
    """Launch a job and stay with it to the end, retries included."""
    ready, gang = await start_job(launcher)
    try:
        return await stay(launcher, gang, ready.nodes, ready.sessions)
    finally:
        await close_all(ready.sessions.values())


async def stay(
    launcher: Launcher, gang: Gang, nodes: Mapping[str, Node], sessions: dict[str, Session], lost: Lost = ()
) -> Outcome:
    """Follow attempts until one completes, is stopped, or no retry is left; collect, release, record.

    Args:
        launcher: of the job; its controller is this process.
        gang: the attempt that runs.
        nodes: its nodes by name.
        sessions: open sessions by node name; those opened later are closed here.
        lost: nodes without a session, and why.
    """
    store, request = launcher.store, launcher.request
    opened: list[Ready] = []
    try:
        while True:
            watcher = Watcher(store, gang, nodes, sessions, launcher.tell, request.stall_timeout_s)
            for name, why in lost:
                watcher.lose(name, why)
            outcome = await watcher.run()
            close_attempt(store, gang, outcome)
            if not _try_again(outcome, gang, request) or store.job(gang.job).stop_requested:
                break
            launcher.tell("step", {"text": f"attempt {gang.attempt} failed: {outcome.reason}; trying again"})
            await finish_attempt(store, gang, nodes, sessions, outcome)
            store.release(gang.job)
            ready = await launcher.ready()
            opened.append(ready)
            gang = await _next_attempt(launcher, ready, gang)
            nodes, sessions, lost = ready.nodes, ready.sessions, ()
        await finish(store, gang, nodes, sessions, outcome, launcher.controller, launcher.tell)
    except UgroError as error:
        await launcher.stop_started(gang, sessions)  # whatever went wrong here, no rank trains on unwatched
        with contextlib.suppress(StateError):  # a full disk takes no record either: the next verb makes it up
            launcher.end("failed", str(error), error.exit_code)
        raise
    finally:
        for ready in opened:
            await close_all(ready.sessions.values())
    return outcome


async def _next_attempt(launcher: Launcher, ready: Ready, last: Gang) -> Gang:
    """Start the next attempt, from the newest complete checkpoint that was collected."""
    paths = JobPaths(last.job)
    await launcher.read_code()
    paths.keep_logs(last.attempt)
    newest = checkpoints.newest(paths)
    gang = launcher.next_attempt(ready, str(newest or launcher.request.resume or ""))
    if newest:
        launcher.tell("step", {"text": f"attempt {gang.attempt} goes on from {newest.name}"})
    await launcher.start(ready, gang)
    return gang


def _try_again(outcome: Outcome, gang: Gang, request: JobRequest) -> bool:
    """Say whether another attempt is due: as often as asked, and once more where the port was taken meanwhile."""
    if outcome.status != "failed":
        return False
    port_taken = any("EADDRINUSE" in line or "address already in use" in line.lower() for line in outcome.last_lines)
    return gang.attempt <= max(request.retry, 1 if port_taken else 0)


def close_attempt(store: Store, gang: Gang, outcome: Outcome) -> None:
    """Record how an attempt ended; a rank that never said so, having had no time to start, ended with it."""
    for rank in store.ranks(gang.job, gang.attempt):
        if rank.status not in ENDED | {"lost"}:
            status = "completed" if outcome.status == "completed" else "stopped"
            store.set_rank(gang.job, gang.attempt, rank.rank, status=status)
    store.set_attempt(
        gang.job, gang.attempt, status=outcome.status, reason=outcome.reason, ended_at=datetime.now(UTC)
    )  # fmt: skip


async def finish_attempt(
    store: Store, gang: Gang, nodes: Mapping[str, Node], sessions: Mapping[str, Session], outcome: Outcome
) -> None:
    """Bring in what an attempt left on the nodes; what cannot be had is an event, not the end of the job."""
    alive = {name: session for name, session in sessions.items() if name not in outcome.lost_nodes}
    for name in outcome.lost_nodes:
        store.add_event(
            "collect_failed",
            f"{name}: not reached; what it wrote lies there",
            job=gang.job,
            node=name,
            severity="error",
        )
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
