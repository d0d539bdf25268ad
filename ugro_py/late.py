"""Collect what a job that has ended still has on its nodes: one was lost, or the central store was full."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from ugro_py import metrics, results
from ugro_py.cluster import Cluster, Node
from ugro_py.collect import collect
from ugro_py.errors import NodeError, NotFoundError, StateError
from ugro_py.launch import Launcher
from ugro_py.mirror import Mirror
from ugro_py.paths import JobPaths
from ugro_py.plan import Gang
from ugro_py.reconcile import reconcile
from ugro_py.saved import load_gang, nodes_of
from ugro_py.state import JobRow, Store
from ugro_py.transport import Session, close_all, open_sessions

_INCOMPLETE = ("collect_failed", "node_lost", "start_failed")
_COLLECTED = "collected"
_DRAIN_S = 60.0
_POLL_S = 0.2


def collect_job(store: Store, name: str, say: Callable[[str], None], *, wait: bool = True) -> tuple[JobRow, list[str]]:
    """See to it that all results of a job are in the central store.

    Args:
        store: the state store.
        name: the job; while it runs, its own controller will collect when it ends.
        say: is given a line where it has to wait.
        wait: for a job that runs; otherwise it is an error.

    Returns:
        The job, and the nodes from which something was still to be had.

    Raises:
        NotFoundError: there is no such job.
        NodeError: a node that may have results cannot be reached.
        StateError: the job runs (without `wait`), or the results cannot be written.
    """
    job = store.job(name)
    reconcile(store, name)
    if job.active:
        if not wait:
            raise StateError(f"collect job {name}", f"it is {job.status}", "wait for its end, or `ugro stop` it")
        say(f"job {name} is {job.status}; its results are collected when it ends")
    job = wait_for_end(store, name)
    attempt = store.attempt(name)
    marks = [event.kind for event in store.events(name, limit=1000) if event.kind in (*_INCOMPLETE, _COLLECTED)]
    if attempt is None or not marks or marks[-1] == _COLLECTED:
        return job, []
    nodes = asyncio.run(_collect_all(name, attempt.number))
    store.add_event(_COLLECTED, f"collected what was left on {', '.join(nodes) or 'no node'}", job=name)
    results.write_notes(name, store)
    return job, nodes


def wait_for_end(store: Store, name: str) -> JobRow:
    """Return the job once it has ended, whoever controls it."""
    while (job := store.job(name)).active:
        time.sleep(_POLL_S)
        if job.controller is None or job.controller.is_alive() is False:
            reconcile(store, name)
    return job


async def _collect_all(name: str, newest: int) -> list[str]:
    """Collect every attempt, the oldest first, so that what a later one wrote under the same name is what stays."""
    found: dict[str, None] = {}
    for attempt in range(1, newest + 1):
        loaded = load_gang(name, attempt)
        if loaded is None and attempt == newest:
            raise NotFoundError(f"attempt {attempt} of job {name}", "its folder in the central store is gone")
        if loaded is not None:
            found.update(dict.fromkeys(await _collect(name, attempt, *loaded)))
    return list(found)


async def salvage(
    gang: Gang, nodes: Mapping[str, Node], sessions: Mapping[str, Session]
) -> tuple[list[str], list[str]]:
    """Bring in all that an attempt left on the nodes, which it stops there if it still runs.

    Returns:
        The nodes that had something, and a line for each whose results could not be written here.

    Raises:
        NodeError: a node does not answer.
    """
    states = await asyncio.gather(
        *(session.call("status", job=gang.job, attempt=gang.attempt) for session in sessions.values())
    )
    left = {
        node: session
        for (node, session), state in zip(sessions.items(), states, strict=True)
        if state["state"] != "absent"
    }
    await asyncio.gather(*(_finish_copies(gang, session) for session in left.values()))
    problems = await collect(gang, nodes, left)
    metrics.rebuild(JobPaths(gang.job))
    return list(left), problems


async def end_partly_started(
    launcher: Launcher, gang: Gang, nodes: Mapping[str, Node], sessions: Mapping[str, Session]
) -> None:
    """Stop an attempt that did not start everywhere; what ranks wrote where it did is kept."""
    await launcher.stop_started(gang, sessions)
    try:
        _left, problems = await salvage(gang, nodes, sessions)
    except NodeError as error:
        problems = [str(error)]
    for problem in problems:
        launcher.store.add_event("collect_failed", problem, job=gang.job, severity="error")
    if not problems:
        await launcher.stop_started(gang, sessions, forget=True)


async def _collect(name: str, attempt: int, gang: Gang, cluster: Cluster) -> list[str]:
    nodes = nodes_of(gang, cluster)
    opened = await open_sessions(list(nodes.values()))
    try:
        for session in opened.values():
            if isinstance(session, NodeError):
                raise session
        sessions = {node: session for node, session in opened.items() if isinstance(session, Session)}
        left, problems = await salvage(gang, nodes, sessions)
        if problems:
            raise StateError(f"collect job {name}", problems[0], "correct it and collect again")
        return left
    finally:
        await close_all(opened.values())


async def _finish_copies(gang: Gang, session: Session) -> None:
    """Stop what may still run of the ended job on a node, and copy the rest of its logs and events."""
    key: dict[str, Any] = {"job": gang.job, "attempt": gang.attempt}
    name = session.node.name
    await session.call("stop", **key, reason="the job has ended", grace_s=0.0)
    mirror = Mirror(JobPaths(gang.job), gang.attempt, name)
    with contextlib.closing(mirror):

        def take(message: dict[str, Any]) -> None:
            if message["push"] == "bytes":
                mirror.write(message["path"], message["offset"], message["data"])

        session.on_push = take
        await session.call("follow", **key, offsets=mirror.offsets([place.rank for place in gang.ranks_of(name)]))
        sizes = await session.call("sizes", **key)
        deadline = time.monotonic() + _DRAIN_S
        while not mirror.has(sizes):
            if time.monotonic() > deadline or session.closed:
                raise NodeError(f"{name}: copy the logs of {gang.job}", "they did not arrive", "collect again")
            await asyncio.sleep(0.02)
        await session.call("unfollow", **key)
