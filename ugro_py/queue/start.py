"""Start a job whose turn has come, on the GPUs that the queue chose, and stay with it to its end.

What goes wrong before its ranks run sends it back to the queue: a GPU that somebody took, as often as it happens; a
node that fails its verification or its start, at most `TRIES` times.
"""

from __future__ import annotations

import asyncio
import contextlib

from ugro_py import checkpoints, late, secret_env
from ugro_py.call_off import CalledOffError, pause, unless_called_off
from ugro_py.cluster import Cluster
from ugro_py.errors import AllocationError, NodeError, StateError, UgroError, VerificationError
from ugro_py.finish import close_attempt
from ugro_py.gang import Outcome
from ugro_py.launch import Launcher
from ugro_py.paths import JobPaths
from ugro_py.plan import Gang
from ugro_py.queue import spool
from ugro_py.queue.model import Start
from ugro_py.ready import Reached, Ready
from ugro_py.request.job import NOT_AT_ONCE, JobRequest
from ugro_py.run import stay
from ugro_py.state import Controller, JobRow, Store
from ugro_py.state.away import AwayError
from ugro_py.state.fence import LostControlError
from ugro_py.state.models import ENDED
from ugro_py.transport import close_all
from ugro_py.watch import Listener

TRIES = 3
"""How often a job is put back into the queue because a node could not start it; after that it has failed."""

BACK_OFF_S = (2.0, 5.0, 10.0)
NOT_STARTED = "start_failed"
"""The kind of the event for each time."""

_ANEW = ("following", "resumed")
"""Events that end such a row: the job has run, or its owner put it back into the queue."""


class _NotStartedError(Exception):
    """Something broke while the job started on its nodes: `error`."""

    def __init__(self, error: UgroError) -> None:
        self.error = error
        super().__init__(str(error))


async def run_queued(
    store: Store,
    cluster: Cluster,
    job: JobRow,
    start: Start,
    controller: Controller,
    tell: Listener,
    *,
    reached: Reached | None = None,
) -> Outcome:
    """Claim a waiting job, verify its nodes, stage what it was submitted with, start it and stay to the end.

    Args:
        store: the state store.
        cluster: the inventory.
        job: a job with status `pending` whose files are in its spool.
        start: what the queue decided for it.
        controller: this process.
        tell: hears of every step.
        reached: the nodes, where they were asked just now.

    Returns:
        How the job ended. With status `pending` it did not start and waits again, or another process has it.

    Raises:
        UgroError: something broke while it ran; that it has failed is recorded.
    """
    store = store.acting_as(controller)
    if not await store.patiently(store.claim, job.name, controller):
        return Outcome("pending", "another process controls it")
    now = await store.patiently(store.job, job.name)
    if not now.active:  # cancelled between the decision and the claim
        await store.patiently(store.unclaim, job.name, controller)
        await store.patiently(tidy, store, job.name)
        return Outcome(now.status, now.reason, now.exit_code or 0)
    if now.held or now.stop_requested:
        return Outcome("pending", "held" if now.held else "to be stopped")
    launcher = Launcher(JobRequest.from_dict(job.request), cluster, store, job.user, tell, controller, reached)
    begun = await _begin(launcher, start)
    if isinstance(begun, Outcome):
        return begun
    ready, gang = begun
    try:
        return await stay(launcher, gang, ready.nodes, ready.sessions)
    finally:
        await close_all(ready.sessions.values())
        await asyncio.to_thread(tidy, store, job.name)


def tidy(store: Store, job: str) -> None:
    """Drop what only a job that has not ended needs: its secrets, and copies of its data sets."""
    with contextlib.suppress(StateError):  # the job's own end matters more; the next verb finds the copies
        if store.job(job).status in ENDED:
            secret_env.forget(job)
            spool.forget_sources(job)


async def _begin(launcher: Launcher, start: Start) -> tuple[Ready, Gang] | Outcome:
    """Take the job to running supervisors, or back to the queue, or to its end."""
    name, store = launcher.request.name, launcher.store
    try:
        secret_env.of(name, launcher.request.secret_env)
    except secret_env.SecretsLostError as error:
        words = " --secret-env ".join(launcher.request.secret_env)
        held_by = f"ugro until `ugro resume {name} --secret-env {words}` gives its secrets again"
        await store.patiently(store.set_waiting, name, str(error), held_by=held_by)
        launcher.tell("warning", {"text": str(error)})
        return Outcome("pending", str(error))
    try:
        return await unless_called_off(store, name, _started(launcher, start))
    except CalledOffError as error:
        return await _called_off(launcher, error)
    except AllocationError as error:
        return await _back(launcher, str(error), BACK_OFF_S[0])
    except (NodeError, VerificationError) as error:
        return await _not_started(launcher, error)
    except _NotStartedError as failed:
        return await _not_started(launcher, failed.error)
    except (LostControlError, AwayError):  # whoever controls it next finds what has started, and puts it back
        raise
    except UgroError as error:
        await _end(launcher, "failed", str(error), error.exit_code)
        raise


async def _started(launcher: Launcher, start: Start) -> tuple[Ready, Gang]:
    """Take the job to running supervisors.

    Raises:
        AllocationError, NodeError, VerificationError, _NotStartedError: it could not be started now.
        UgroError: it cannot be started at all.
    """
    await launcher.read_code()
    ready = await launcher.ready(decided=start.placements)
    try:
        gang, newest = await _recorded(launcher, ready)
        if newest:
            launcher.tell("step", {"text": f"attempt {gang.attempt} goes on from {newest}"})
        try:
            await launcher.start(ready, gang)
        except BaseException as error:
            # Not only what was expected: Ctrl-C too leaves a job that waits, and nothing of it on the nodes.
            reason = str(error) or "the start was interrupted"
            with contextlib.suppress(LostControlError, AwayError):  # it is another's, and may run by now
                await launcher.store.patiently(_put_back, launcher.store, gang, reason)
            raise
    except BaseException as error:
        await close_all(ready.sessions.values())
        if isinstance(error, UgroError) and not isinstance(error, AllocationError | LostControlError | AwayError):
            raise _NotStartedError(error) from error
        raise
    return ready, gang


async def _recorded(launcher: Launcher, ready: Ready) -> tuple[Gang, str | None]:
    """Record the next attempt. The thread that does goes on when its job is called off: then it is taken back."""
    work = asyncio.ensure_future(launcher.store.patiently(_next_attempt, launcher, ready))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        with contextlib.suppress(UgroError):  # not recorded, or another controller's by now
            gang, _ = await work
            await launcher.store.patiently(_put_back, launcher.store, gang, "the start was interrupted")
        raise


def _put_back(store: Store, gang: Gang, reason: str) -> None:
    close_attempt(store, gang, Outcome("failed", reason, 1))
    store.release(gang.job)
    store.set_waiting(gang.job, reason)


async def _end(launcher: Launcher, status: str, reason: str, exit_code: int = 0) -> Outcome:
    """End a job that does not start."""
    await launcher.store.patiently(late.note_uncollected, launcher.store, launcher.request.name)
    await launcher.store.patiently(launcher.end, status, reason, exit_code)
    await launcher.store.patiently(tidy, launcher.store, launcher.request.name)
    return Outcome(status, reason, exit_code)


async def _called_off(launcher: Launcher, error: CalledOffError) -> Outcome:
    """End a job that was stopped while it started, or let it wait until it is released."""
    name, store = launcher.request.name, launcher.store
    if error.held:
        await store.patiently(store.set_waiting, name, error.reason)
        launcher.tell("waiting", {"reason": error.reason})
        return Outcome("pending", error.reason)
    return await _end(launcher, "stopped", error.reason)


def _next_attempt(launcher: Launcher, ready: Ready) -> tuple[Gang, str | None]:
    """Record the next attempt: of a job that ran before, it goes on from its newest complete checkpoint, named here."""
    name = launcher.request.name
    last = launcher.store.attempt(name)
    newest = None
    if last is not None:
        JobPaths(name).keep_logs(last.number)
        newest = checkpoints.newest(JobPaths(name))
    gang = launcher.next_attempt(ready, str(newest or launcher.request.resume or ""))
    return gang, newest.name if newest else None


async def _not_started(launcher: Launcher, error: UgroError) -> Outcome:
    """Put the job back because a node could not start it, or end it if that happened too often."""
    name, store = launcher.request.name, launcher.store
    await store.patiently(store.add_event, NOT_STARTED, str(error), job=name, severity="warning")
    tries = 0
    for event in await store.patiently(store.find_events, 100, job=name, kinds=(NOT_STARTED, *_ANEW)):
        tries = 0 if event.kind in _ANEW else tries + (event.kind == NOT_STARTED)
    if tries > TRIES or await store.patiently(_must_not_wait, launcher):
        reason = f"could not be started {tries} times; last: {error}" if tries > 1 else str(error)
        return await _end(launcher, "failed", reason, error.exit_code)
    return await _back(launcher, str(error), BACK_OFF_S[min(tries, len(BACK_OFF_S)) - 1])


async def _back(launcher: Launcher, reason: str, pause_s: float) -> Outcome:
    """Let the job wait again; not at once, since the same decision would come to the same end."""
    store = launcher.store
    if await store.patiently(_must_not_wait, launcher):
        return await _end(launcher, "stopped", f"{NOT_AT_ONCE}: {reason}")
    await store.patiently(store.set_waiting, launcher.request.name, reason)
    launcher.tell("waiting", {"reason": reason})
    await pause(launcher.store, launcher.request.name, pause_s)
    return Outcome("pending", reason)


def _must_not_wait(launcher: Launcher) -> bool:
    """Say whether the job was to start at once or not at all, and never ran yet."""
    return launcher.request.no_wait and launcher.store.job(launcher.request.name).started_at is None
