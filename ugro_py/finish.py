"""What is recorded and brought in when an attempt has ended, and its job with it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ugro_py import checkpoints, experiments, late, metrics
from ugro_py.cluster import Node
from ugro_py.collect import collect
from ugro_py.errors import StateError
from ugro_py.gang import Outcome
from ugro_py.paths import JobPaths
from ugro_py.plan import Gang
from ugro_py.state import Store
from ugro_py.state.away import AwayError
from ugro_py.state.models import ENDED
from ugro_py.transport import Session

if TYPE_CHECKING:
    from ugro_py.launch import Launcher


def close_attempt(store: Store, gang: Gang, outcome: Outcome) -> None:
    """Record how an attempt ended, once; a rank that never said so, having had no time to start, ended with it."""
    for rank in store.ranks(gang.job, gang.attempt):
        if rank.status not in ENDED | {"lost"}:
            status = "completed" if outcome.status == "completed" else "stopped"
            store.set_rank(gang.job, gang.attempt, rank.rank, status=status)
    known = store.attempt(gang.job, gang.attempt)
    at = known.ended_at if known else None  # whoever takes over a job that had ended finds that again
    store.set_attempt(
        gang.job, gang.attempt, status=outcome.status, reason=outcome.reason, ended_at=at or datetime.now(UTC)
    )  # fmt: skip


async def finish_attempt(
    store: Store, gang: Gang, nodes: Mapping[str, Node], sessions: Mapping[str, Session], outcome: Outcome, keep: int
) -> None:
    """Bring in what an attempt left on the nodes; what cannot be had is an event, not the end of the job.

    The central store keeps the newest `keep` checkpoints of the job from each node.
    """
    alive = {name: session for name, session in sessions.items() if name not in outcome.lost_nodes}
    problems: list[tuple[str | None, str]] = [
        (name, f"{name}: not reached; what it wrote lies there") for name in gang.nodes if name not in alive
    ]
    problems += [(None, problem) for problem in await collect(gang, nodes, alive)]
    try:
        metrics.rebuild(JobPaths(gang.job))
    except StateError as error:
        problems.append((None, str(error)))
    for node, problem in problems:
        await store.patiently(
            store.add_event, "collect_failed", problem, job=gang.job, node=node, severity="error"
        )  # fmt: skip
    await store.patiently(late.note_collected, store, gang)
    await _forget_old(store, gang, keep)


async def _forget_old(store: Store, gang: Gang, keep: int) -> None:
    """Drop checkpoints that are too many: a job that runs for weeks must not fill the store."""
    in_use = await store.patiently(checkpoints.in_use, store)
    if gang.resume_from:
        in_use.add(checkpoints.real(gang.resume_from))
    told: dict[str, Any]
    try:
        old = await asyncio.to_thread(checkpoints.forget_old, JobPaths(gang.job), keep, in_use)
        were = "was" if len(old) == 1 else "were"
        text = f"{len(old)} of more than {keep} checkpoints {were} removed, up to {old[-1].name}" if old else ""
        told = {"data": {"names": [path.name for path in old]}}
    except OSError as error:
        text = f"{error.filename}: an old checkpoint could not be removed: {error.strerror}"
        told = {"severity": "warning"}
    if text:  # in a call of its own: a database that is away has the event told again, not looked for again
        await store.patiently(store.add_event, "checkpoints_forgotten", text, job=gang.job, **told)


async def finish(
    store: Store,
    gang: Gang,
    nodes: Mapping[str, Node],
    sessions: Mapping[str, Session],
    outcome: Outcome,
    launcher: Launcher,
) -> None:
    """Collect what a job that holds no GPU any more has left, and record how it ended."""
    launcher.tell("step", {"text": "collecting results"})
    await finish_attempt(store, gang, nodes, sessions, outcome, launcher.cluster.settings.keep_checkpoints)
    await store.patiently(store.set_job, gang.job, outcome.status, outcome.reason, outcome.exit_code)
    try:
        await store.patiently(experiments.finish, gang.job, store)
    except AwayError:
        raise
    except StateError as error:  # the job has ended all the same; who collects it writes them too
        await store.patiently(store.add_event, "collect_failed", str(error), job=gang.job, severity="error")
    await store.patiently(store.unclaim, gang.job, launcher.controller)
