"""Wait for a job's turn without an agent: every process that waits comes to the same decision by itself."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from ugro_py import late, users
from ugro_py.cluster import Cluster
from ugro_py.errors import StateError
from ugro_py.gang import Outcome
from ugro_py.queue import spool, start
from ugro_py.queue.actions import preempt
from ugro_py.queue.decide import decide
from ugro_py.queue.model import Decision, Start
from ugro_py.queue.snapshot import snapshot_of
from ugro_py.saved import cluster_of
from ugro_py.state import Controller, JobRow, Store
from ugro_py.transport import close_all
from ugro_py.watch import Listener

if TYPE_CHECKING:
    from ugro_py.ready import Reached

POLL_S = 0.5


async def wait_and_run(
    store: Store,
    cluster: Cluster,
    job: JobRow,
    controller: Controller,
    tell: Listener,
    *,
    reached: Reached | None = None,
) -> Outcome:
    """Wait until the job may start, start it and stay with it to its end; it waits again where that did not work.

    Args:
        store: the state store.
        cluster: the inventory.
        job: a job with status `pending`.
        controller: this process; it controls the job already.
        tell: hears what the job waits for ("waiting": `reason`), and every step once it starts.
        reached: the nodes, where they were asked just now: used if the job's turn is now.

    Raises:
        UgroError: something broke while it ran; that it has failed is recorded.
    """
    store = store.acting_as(controller)
    cluster = users.cluster_for(cluster, job.user)
    if not spool.exists(job.name):
        reason = "its controller ended before its files were kept"
        return await store.patiently(_end, store, job.name, controller, "failed", reason, 1)
    while True:
        turn = await wait_for_turn(store, cluster, job.name, controller, tell, none_reached=reached is None)
        if turn is None:
            if reached is not None:  # a job may wait for days; its nodes are asked anew then
                await close_all(reached.sessions.values())
            reached = None
            continue
        if isinstance(turn, Outcome):
            if turn.status == "pending":
                return turn  # another process took the job over
            return await store.patiently(_end, store, job.name, controller, turn.status, turn.reason, turn.exit_code)
        known, reached = _only(reached, turn), None
        row = await store.patiently(store.job, job.name)
        outcome = await start.run_queued(store, cluster, row, turn, controller, tell, reached=known)
        if outcome.status != "pending":
            return outcome


async def take_over(store: Store, job: JobRow, controller: Controller, tell: Listener) -> Outcome:
    """As `wait_and_run`, for a process that was started for this job alone: its cluster is the one it was made for."""
    store = store.acting_as(controller)
    try:
        cluster = await asyncio.to_thread(cluster_of, job.name)
    except StateError as error:
        return await store.patiently(_end, store, job.name, controller, "failed", str(error), error.exit_code)
    return await wait_and_run(store, cluster, job, controller, tell)


async def wait_for_turn(
    store: Store, cluster: Cluster, name: str, controller: Controller, tell: Listener, *, none_reached: bool = True
) -> Start | Outcome | None:
    """Wait until the queue starts this job, and keep why it does not yet as the job's reason.

    Returns:
        What was decided; how the job ended meanwhile (`pending`: another process has it); None where it has to wait
        and `none_reached` is false.
    """
    told = None
    while True:
        job = await store.patiently(store.job, name)
        if not job.active:
            return Outcome(job.status, job.reason, job.exit_code or 0)
        if job.controller != controller:
            return Outcome("pending", "another process controls it")
        if job.stop_requested:
            return Outcome("stopped", "stopped on request before it started")
        decision = await store.patiently(_decide, store, cluster, name)
        for turn in decision.start:
            if turn.job == name:
                return turn
        for fail in decision.fail:
            if fail.job == name:
                return Outcome("failed", fail.reason, 1)
        reason = decision.reasons.get(name, "waits for its turn")
        if reason != told:
            tell("waiting", {"reason": reason, **_place(decision, name)})
            told = reason
        if not none_reached:
            return None
        await asyncio.sleep(POLL_S)


def _decide(store: Store, cluster: Cluster, name: str) -> Decision:
    decision = decide(snapshot_of(store, cluster, time.time()))
    if name in decision.reasons and store.job(name).reason != decision.reasons[name]:
        store.note_reasons({name: decision.reasons[name]})
    for stop in decision.preempt:
        if stop.for_job == name:
            preempt(store, stop.job, name)
    return decision


def _place(decision: Decision, name: str) -> dict[str, int]:
    with contextlib.suppress(ValueError):
        return {"position": decision.order.index(name) + 1, "waiting": len(decision.order)}
    return {}


def _only(reached: Reached | None, turn: Start) -> Reached | None:
    """Return what was just asked if it covers the nodes of the decision."""
    if reached is None or not {rank.node for rank in turn.placements} <= reached.reports.keys():
        return None
    return reached


def _end(store: Store, name: str, controller: Controller, status: str, reason: str, exit_code: int) -> Outcome:
    """Record the end of a job that never started (again)."""
    if store.job(name).active:
        late.note_uncollected(store, name)
        store.set_job(name, status, reason, exit_code)
    store.unclaim(name, controller)
    start.tidy(store, name)
    return Outcome(status, reason, exit_code)
