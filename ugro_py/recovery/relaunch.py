"""Start the next attempt of a job: on the same GPUs if they are well, else on a spare node, else on fewer nodes."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ugro_py import checkpoints
from ugro_py.cluster import Node
from ugro_py.display import counted
from ugro_py.errors import AllocationError, NodeError, UgroError, UsageError, VerificationError
from ugro_py.gang import Outcome
from ugro_py.paths import JobPaths
from ugro_py.plan import Gang
from ugro_py.ready import Ready, prepare
from ugro_py.recovery.ahead import Ahead
from ugro_py.request.job import JobRequest
from ugro_py.saved import load_gang, save_gang
from ugro_py.scheduler import Placement, parse_selection
from ugro_py.state.away import AwayError
from ugro_py.state.fence import LostControlError
from ugro_py.transport import Session, close_all

if TYPE_CHECKING:
    from ugro_py.launch import Launcher

# What another node, fewer of them, or time may mend.
_NOT_NOW = (AllocationError, NodeError, UsageError, VerificationError)


_FROM_THE_BEGINNING = (
    "starts from the beginning: no checkpoint with a manifest has come to the central store (docs/recovery.md)"
)


@dataclass(frozen=True)
class Running:
    """An attempt that has started, with its nodes and the sessions to them; `ready` where these are new."""

    gang: Gang
    nodes: Mapping[str, Node]
    sessions: dict[str, Session]
    ready: Ready | None = None


class NotNowError(UgroError):
    """The next attempt cannot start at the moment; the job has to wait for its turn."""


async def relaunch(
    launcher: Launcher,
    last: Gang,
    nodes: Mapping[str, Node],
    sessions: dict[str, Session],
    outcome: Outcome,
    ahead: Ahead | None,
) -> Running:
    """Start the attempt that follows `last`, from the newest complete checkpoint in the central store.

    Args:
        launcher: of the job.
        last: the attempt that failed; nothing of it lives on the nodes that answer.
        nodes: its nodes by name.
        sessions: open sessions to them.
        outcome: how it ended.
        ahead: the next attempt on the same GPUs, made ready in advance, if there is one.

    Raises:
        NotNowError: there is nothing to start it on; its GPUs are free.
        UgroError: it cannot be started at all: its code is gone, say.
    """
    paths = JobPaths(last.job)
    paths.keep_logs(last.attempt)
    newest = checkpoints.newest(paths)
    resume = str(newest or launcher.request.resume or "")
    unfit, gone = await launcher.store.patiently(_unfit, launcher, last, outcome)
    if ahead is not None and not unfit and not gone:
        gang = await ahead.go(resume)
        if gang is not None:
            _tell(launcher, gang, resume)
            return Running(gang, nodes, sessions)
    if ahead is not None:
        await ahead.discard()
    await launcher.read_code()
    ready = await _find_place(launcher, last, unfit, gone)
    gang = None
    try:
        wanted = _first_world_size(last)
        gang = await launcher.store.wholly(launcher.next_attempt, ready, resume)  # who frees its GPUs comes after it
        if gang.world_size < wanted:
            gang = replace(gang, world_size_wanted=wanted)
            save_gang(gang, launcher.cluster, launcher.store.identity())
            await _tell_fewer(launcher, gang)
        await launcher.start(ready, gang)
    except BaseException as error:
        await close_all(ready.sessions.values())
        if gang is not None:  # a node broke while it started, say: nothing runs, and another may do
            reason = f"could not be started: {error}" if str(error) else "its start was interrupted"
            with contextlib.suppress(LostControlError, AwayError):
                await launcher.store.patiently(
                    launcher.store.set_attempt, last.job, gang.attempt, status="failed", reason=reason
                )
        if isinstance(error, AllocationError | NodeError):
            raise NotNowError(error.what, error.came_back, error.next_step) from error
        raise
    _tell(launcher, gang, resume)
    return Running(gang, ready.nodes, ready.sessions, ready)


def _unfit(launcher: Launcher, last: Gang, outcome: Outcome) -> tuple[dict[str, str], dict[Placement, str]]:
    """Return the nodes, and the GPUs of other nodes, that the next attempt must do without, and why."""
    unfit = dict.fromkeys(outcome.lost_nodes, "was lost")
    closed = launcher.store.unschedulable()
    unfit |= {name: closed[name] for name in last.nodes if name in closed}
    unusable = launcher.store.unusable_gpus()
    gone = {
        place: unusable[place.gpu.uuid]
        for place in last.placements
        if place.gpu.uuid in unusable and place.node not in unfit
    }
    failure = outcome.failure
    if failure and failure.kind == "gpu" and failure.node:
        known = [place for place in gone if place.node == failure.node and failure.rank in (None, place.rank)]
        if not known:  # the GPU is there again by now: not to be trusted, whatever ails others of its node
            unfit.setdefault(failure.node, "lost a GPU")
    return unfit, {place: why for place, why in gone.items() if place.node not in unfit}


async def _find_place(launcher: Launcher, last: Gang, unfit: Mapping[str, str], gone: Mapping[Placement, str]) -> Ready:
    """Return nodes that can start: the same ones if all are fit, else as many without what is unfit, else fewer.

    Raises:
        NotNowError: there are none.
    """
    request, first = launcher.request, ""
    if not unfit and not gone:
        try:
            return await prepare(request, launcher.cluster, launcher.store, decided=last.placements)
        except _NOT_NOW as error:
            first = str(error)
    await launcher.store.patiently(launcher.store.release, last.job)
    why = ", ".join([*(f"{name} {why}" for name, why in unfit.items()), *gone.values()])
    spare = {node: [place.gpu.uuid for place in gone if place.node == node] for node in {p.node for p in gone}}
    for attempt in _requests(request, last, tuple(unfit), tuple(gone)):
        try:
            return await prepare(attempt, launcher.cluster, launcher.store, unfit=spare)
        except _NOT_NOW as error:
            first = first or str(error)
    raise NotNowError("wait to be tried again", ": ".join(filter(None, (why, first))))


def _requests(
    request: JobRequest, last: Gang, unfit: Collection[str], gone: Collection[Placement] = ()
) -> Iterator[JobRequest]:
    """Yield what to ask for, the best first: as much as the job began with, then node by node less.

    What is left of a node of which a GPU is gone may do; if not (it cannot be verified, say), a node in its place.
    """
    size, first = _first_nodes(last)
    per_node = size // first if size % first == 0 else None
    parts = tuple(sorted({place.node for place in gone}))
    for count in range(first, min(first, request.min_nodes or first) - 1, -1):
        if count == first:
            gpus = size if request.gpus is not None or per_node is None else None
        else:
            gpus = per_node * count if per_node is not None else None
        whole = size if count == first else gpus
        for left_out, number in dict.fromkeys([((), whole), (parts, gpus), ((), gpus)] if parts else [((), gpus)]):
            without = {*unfit, *left_out}
            include = tuple(_without(request.include, without, gone))
            if include or not request.include:  # else only these were wanted, and none of them is left
                exclude = (*request.exclude, *sorted(without))
                yield replace(request, include=include, exclude=exclude, nodes=count, gpus=number)


def _without(words: Sequence[str], nodes: Collection[str], gone: Collection[Placement]) -> Iterator[str]:
    """Yield the words of `--include` that are left without these nodes and GPUs."""
    for node, indexes in parse_selection(" ".join(words)).items():
        left = [n for n in indexes or () if n not in {place.gpu.index for place in gone if place.node == node}]
        if node not in nodes and (indexes is None or left):
            yield node if indexes is None else f"{node}:{','.join(map(str, left))}"


def _first_nodes(last: Gang) -> tuple[int, int]:
    """Return the ranks and nodes that the job began with."""
    loaded = load_gang(last.job, 1)
    gang = loaded[0] if loaded else last
    return gang.world_size, len(gang.nodes)


def _first_world_size(last: Gang) -> int:
    return max(_first_nodes(last)[0], last.world_size_wanted)


def _tell(launcher: Launcher, gang: Gang, resume: str) -> None:
    where = f"goes on from {resume.rpartition('/')[2]}" if resume else _FROM_THE_BEGINNING
    launcher.tell("step", {"text": f"attempt {gang.attempt} {where}"})


async def _tell_fewer(launcher: Launcher, gang: Gang) -> None:
    text = (
        f"attempt {gang.attempt} goes on with {counted(gang.world_size, 'rank')} instead of {gang.world_size_wanted}:"
        " nothing else is free; the global batch is kept by more gradient accumulation"
    )
    launcher.tell("warning", {"text": text})
    store = launcher.store
    await store.patiently(store.add_event, "fewer_nodes", text, job=gang.job, severity="warning")
