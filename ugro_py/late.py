"""Collect what a job that has ended still has on its nodes: one was lost, or the central store was full."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ugro_py import experiments, metrics
from ugro_py.cluster import Cluster, Node
from ugro_py.collect import collect_from
from ugro_py.errors import NodeError, NotFoundError, StateError
from ugro_py.log_room import is_low
from ugro_py.mirror import mirror_of
from ugro_py.paths import JobPaths
from ugro_py.plan import Gang, node_token
from ugro_py.reconcile import reconcile
from ugro_py.saved import load_gang, nodes_of
from ugro_py.state import JobRow, Store, _recovery
from ugro_py.state._recovery import ATTEMPT_COLLECTED, COLLECTED, COLLECTING
from ugro_py.transport import Session, close_all, open_sessions

if TYPE_CHECKING:
    from ugro_py.launch import Launcher

_INCOMPLETE = ("collect_failed", "node_lost", "start_failed")
_DRAIN_S = 60.0
_REMOVE_S = 600.0  # a folder of very many files
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
    marks = [event.kind for event in store.events(name, limit=1000) if event.kind in (*_INCOMPLETE, COLLECTED)]
    incomplete = (marks and marks[-1] != COLLECTED) or uncollected(store, name)
    if attempt is None or not incomplete:
        return job, []
    nodes = asyncio.run(_collect_all(name, attempt.number))
    store.add_event(COLLECTED, f"collected what was left on {', '.join(nodes) or 'no node'}", job=name)
    experiments.finish(name, store)
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


def note_collecting(store: Store, gang: Gang) -> None:
    """Record that an attempt is being collected while the job goes on: whoever takes the job over sees to the rest."""
    text = f"collecting what attempt {gang.attempt} left on its nodes"
    store.add_event(COLLECTING, text, job=gang.job, data={"attempt": gang.attempt})


def note_collected(store: Store, gang: Gang) -> None:
    """Record, where that is awaited, that what could be had of an attempt is here; what could not is another event."""
    if gang.attempt not in uncollected(store, gang.job):
        return
    text = f"attempt {gang.attempt} is collected"
    store.add_event(ATTEMPT_COLLECTED, text, job=gang.job, data={"attempt": gang.attempt})


def note_left(store: Store, job: str) -> None:
    """Record that a job ends without being collected: what lies on its nodes stays there until somebody collects it."""
    _note_left(store, job, "what it wrote since")


def note_uncollected(store: Store, job: str) -> None:
    """Record, as a job ends that nobody follows (it waits), what was still to be collected of it, if anything was."""
    if numbers := uncollected(store, job):
        attempts = f"attempt{'' if len(numbers) == 1 else 's'} {', '.join(map(str, numbers))}"
        _note_left(store, job, f"what {attempts} wrote and was not collected yet")


def _note_left(store: Store, job: str, what: str) -> None:
    text = f"{what} lies on its nodes; fetch it: ansible-playbook playbooks/collect.yml -e job={job}"
    store.add_event("collect_failed", text, job=job, severity="error")


def uncollected(store: Store, job: str) -> list[int]:
    """Return the attempts of a job that somebody began to collect while it went on, and never ended to, in order."""
    told = store.find_events(10_000, job=job, kinds=_recovery.COLLECT_KINDS)
    return sorted(_recovery.uncollected((event.kind, event.data) for event in told))


async def bring_in_earlier(store: Store, gang: Gang) -> list[asyncio.Task[None]]:
    """Begin to bring in what a controller that is gone has not collected of the attempts before this one."""
    left = await store.patiently(uncollected, store, gang.job)
    numbers = [number for number in left if number < gang.attempt]
    return [asyncio.create_task(_bring_in(store, gang.job, numbers))] if numbers else []


async def _bring_in(store: Store, job: str, numbers: list[int]) -> None:
    for number in numbers:
        loaded = load_gang(job, number)
        if loaded is None:
            continue
        gang, cluster = loaded
        nodes = nodes_of(gang, cluster)
        opened = await open_sessions(list(nodes.values()))
        try:
            sessions = {name: session for name, session in opened.items() if isinstance(session, Session)}
            problems = {name: str(error) for name, error in opened.items() if isinstance(error, NodeError)}
            problems |= (await salvage(gang, nodes, sessions))[1]
        except (OSError, StateError) as error:  # the central store, full: no reason to end the job, which may run
            problems |= dict.fromkeys(sessions, str(error))
        finally:
            await close_all(opened.values())
        for name, problem in problems.items():
            await store.patiently(
                store.add_event, "collect_failed", problem, job=job, node=name, severity="error"
            )  # fmt: skip
        await store.patiently(note_collected, store, gang)


async def salvage(
    gang: Gang, nodes: Mapping[str, Node], sessions: Mapping[str, Session]
) -> tuple[list[str], dict[str, str]]:
    """Bring in all that an attempt left on the nodes, which it stops there if it still runs.

    Returns:
        The nodes that had something, and a line for each whose results could not be had: they stay there.
    """

    async def one(name: str, session: Session) -> bool:
        key: dict[str, Any] = {"job": gang.job, "attempt": gang.attempt, "token": node_token(gang.token, name)}
        state = await session.call("status", **key)
        if state["state"] != "absent":
            await _finish_copies(gang, session)
        return bool(state["state"] != "absent")

    results = await asyncio.gather(*(one(*pair) for pair in sessions.items()), return_exceptions=True)
    left, problems = [], {}
    for name, result in zip(sessions, results, strict=True):
        if isinstance(result, NodeError | StateError):
            problems[name] = str(result)
        elif isinstance(result, BaseException):
            raise result
        elif result:
            left.append(name)
    problems |= await collect_from(gang, nodes, {name: sessions[name] for name in left})
    metrics.rebuild(JobPaths(gang.job))
    return left, problems


async def end_partly_started(
    launcher: Launcher, gang: Gang, nodes: Mapping[str, Node], sessions: Mapping[str, Session]
) -> None:
    """Stop an attempt that did not start everywhere; what ranks wrote where it did is kept, then its folders go.

    What cannot be had is an event, and stays on its node until somebody collects it.
    """
    silent = await launcher.stop_started(gang, sessions)
    answering = {name: session for name, session in sessions.items() if name not in silent}
    try:
        _left, problems = await salvage(gang, nodes, answering)
    except OSError as error:  # the central store, full or gone
        problems = dict.fromkeys(answering, f"collect job {gang.job}: {error.strerror or error}")
    except StateError as error:  # the same
        problems = dict.fromkeys(answering, str(error))
    problems |= {name: str(error) for name, error in silent.items()}
    for name, problem in problems.items():
        launcher.store.add_event("collect_failed", problem, job=gang.job, node=name, severity="error")
    whole = [(name, session) for name, session in answering.items() if name not in problems]
    key: dict[str, Any] = {"job": gang.job, "attempt": gang.attempt, "timeout_s": _REMOVE_S}
    # A node that goes away just now keeps the folder of an attempt that is fenced off: nothing is lost by that.
    await asyncio.gather(
        *(session.call("remove", **key, token=node_token(gang.token, name)) for name, session in whole),
        return_exceptions=True,
    )


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
            said = next(iter(problems.values()))
            raise StateError(f"collect job {name}", said, "correct it and collect again")
        return left
    finally:
        await close_all(opened.values())


async def _finish_copies(gang: Gang, session: Session) -> None:
    """Stop what may still run of the ended job on a node, and copy the rest of its logs and events."""
    key: dict[str, Any] = {"job": gang.job, "attempt": gang.attempt}
    name = session.node.name
    await session.call("stop", **key, reason="the job has ended", grace_s=0.0)
    mirror = mirror_of(gang, name)
    mirror.paused = is_low(JobPaths(gang.job).root)
    with contextlib.closing(mirror):

        def take(message: dict[str, Any]) -> None:
            if message["push"] == "bytes":
                mirror.write(message["path"], message["offset"], message["data"])

        session.on_push = take
        await session.call("follow", **key, **mirror.wanted(gang.numbers_on(name)))
        sizes = await session.call("sizes", **key)
        deadline = time.monotonic() + _DRAIN_S
        while not mirror.has(sizes):
            if time.monotonic() > deadline or session.closed:
                raise NodeError(f"{name}: copy the logs of {gang.job}", "they did not arrive", "collect again")
            await asyncio.sleep(0.02)
            mirror.paused = mirror.paused or is_low(JobPaths(gang.job).root)
        await session.call("unfollow", **key)
