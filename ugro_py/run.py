"""The second half of a job: follow it, try it again where that may help, collect, release."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ugro_py import late, metrics, results
from ugro_py.call_off import CalledOffError, unless_called_off
from ugro_py.cluster import Node
from ugro_py.collect import collect
from ugro_py.endings import OUT_OF_TIME
from ugro_py.errors import StateError, UgroError
from ugro_py.gang import Outcome
from ugro_py.launch import Launcher
from ugro_py.orders import Orders
from ugro_py.paths import JobPaths
from ugro_py.plan import Gang
from ugro_py.recovery import policy
from ugro_py.recovery.ahead import Ahead
from ugro_py.recovery.copies import Copies
from ugro_py.recovery.relaunch import NotNowError, Running, relaunch
from ugro_py.state import Controller, Store
from ugro_py.state.away import AwayError
from ugro_py.state.fence import LostControlError
from ugro_py.state.models import ENDED
from ugro_py.transport import Session, close_all
from ugro_py.watch import Listener, Rules, Watcher

Lost = Sequence[tuple[str, str]]
_POLL_S = 0.5
_RECORD_S = 5.0
_STOPPED = "stopped on request"


async def stay(
    launcher: Launcher,
    gang: Gang,
    nodes: Mapping[str, Node],
    sessions: dict[str, Session],
    lost: Lost = (),
    *,
    ended: Outcome | None = None,
) -> Outcome:
    """Follow attempts until one completes, is stopped, or no retry is left; collect, release, record.

    Args:
        launcher: of the job; its controller is this process.
        gang: the attempt that runs.
        nodes: its nodes by name.
        sessions: open sessions by node name; those opened later are closed here.
        lost: nodes without a session, and why.
        ended: how that attempt ended, where it never ran: the one that it was to be is started then.

    Returns:
        How the job ended; with status `pending` it is back in the queue, and this process still its controller.
    """
    return await _Stay(launcher).run(Running(gang, nodes, sessions), lost, ended)


class _Stay:
    """One job, from a running attempt to its end."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._store = launcher.store
        self._retry = launcher.request.retry
        self._opened: list[Mapping[str, Session]] = []
        self._collecting: list[asyncio.Task[None]] = []
        self._ahead: Ahead | None = None
        self._leaves = False

    async def run(self, now: Running, lost: Lost, ended: Outcome | None) -> Outcome:
        store, launcher = self._store, self._launcher
        try:
            self._collecting += await late.bring_in_earlier(store, now.gang)
            while True:
                begun = ended is None
                outcome = ended or await self._follow(now, lost)
                ended, lost = None, ()
                await store.patiently(close_attempt, store, now.gang, outcome)
                if outcome.status == "preempted":
                    made_room = await store.patiently(store.preempt_for, now.gang.job) is not None  # else it was held
                    return await self._queue_again(now, outcome, outcome.reason, preempted=made_room)
                if begun and not await self._may_try_again(now.gang, outcome):
                    break
                if (await store.patiently(store.job, now.gang.job)).stop_requested:
                    outcome = Outcome("stopped", _STOPPED, lost_nodes=outcome.lost_nodes)
                    break
                # Asked while it waited: its GPUs are idle.
                if other := await store.patiently(store.preempt_for, now.gang.job):
                    return await self._queue_again(now, outcome, f"made room for {other}", preempted=True)
                work = relaunch(launcher, now.gang, now.nodes, now.sessions, outcome, self._ahead)
                try:
                    following = await unless_called_off(store, now.gang.job, work)
                except NotNowError as error:
                    return await self._queue_again(now, outcome, str(error))
                except CalledOffError as error:
                    if error.held:
                        return await self._queue_again(now, outcome, error.reason)
                    outcome = Outcome("stopped", _STOPPED, lost_nodes=outcome.lost_nodes)
                    break
                if following.ready is not None:
                    self._opened.append(following.sessions)
                # While the next attempt imports torch, what the last one left is brought in.
                await store.patiently(late.note_collecting, store, now.gang)
                self._collecting.append(asyncio.create_task(self._bring_in(now, outcome, self._collecting[-1:])))
                now = following
            await self._discard_ahead()
            await asyncio.gather(*self._collecting)
            await finish(store, *_of(now), outcome, launcher.controller, launcher.tell)
        except (asyncio.CancelledError, LostControlError, AwayError):
            self._leaves = True  # its ranks go on: whoever takes the job over follows them
            raise
        except UgroError as error:
            self._leaves = True  # unless the job is this controller's still
            await launcher.stop_started(now.gang, now.sessions)  # whatever went wrong, no rank trains on unwatched
            self._leaves = False
            recording = store.patiently(_broke, launcher, now.gang.job, error)
            with contextlib.suppress(StateError, TimeoutError):  # a full disk takes no record: who comes next makes it
                await asyncio.wait_for(recording, _RECORD_S)
            raise
        finally:
            await self._discard_ahead()
            for task in self._collecting if self._leaves else ():
                task.cancel()  # whoever goes on with the job collects anew what was not collected
            await asyncio.gather(*self._collecting, return_exceptions=True)
            for sessions in self._opened:
                await close_all(sessions.values())
        return outcome

    async def _follow(self, now: Running, lost: Lost) -> Outcome:
        """Follow one attempt to its end; its checkpoints are in the central store then, as far as nodes answer."""
        launcher, gang = self._launcher, now.gang
        failures = await self._failures(gang.job)
        retries_left = len(failures) < self._retry
        ahead = self._ahead = Ahead(launcher, gang, now.nodes, now.sessions) if retries_left else None
        copies = Copies(self._store, gang, now.nodes, now.sessions, ahead.copied if ahead else None)

        def on_event(node: str, event: Mapping[str, Any]) -> None:
            copies.take(node, event)
            if ahead is not None:
                ahead.take(node, event)

        limit = launcher.request.time_limit_s
        ran_s = await self._store.patiently(self._store.run_seconds, gang.job) if limit else 0.0
        rules = Rules(
            stall_timeout_s=launcher.request.stall_timeout_s,
            grace_s=launcher.cluster.settings.grace_s,
            time_limit_s=limit,
            time_left_s=max(0.0, limit - ran_s) if limit else None,
            restart_frozen=retries_left,
            on_event=on_event,
        )
        watcher = Watcher(self._store, gang, now.nodes, now.sessions, launcher.tell, rules)
        try:
            outcome = await watcher.run(lost)
            await copies.finish()
        finally:
            await copies.cancel()
        if outcome.status == "failed":
            attempt = await self._store.patiently(self._store.attempt, gang.job, gang.attempt)
            seconds = (datetime.now(UTC) - attempt.started_at).total_seconds() if attempt else 0.0
            failure = policy.failed(gang.attempt, outcome, watcher.state.step, seconds)
            text = f"attempt {gang.attempt}: {outcome.reason}"
            await self._store.patiently(self._store.add_failure, gang.job, gang.attempt, failure.as_dict(), text)
        return outcome

    async def _failures(self, job: str) -> list[policy.Failed]:
        return [policy.Failed.from_dict(values) for values in await self._store.patiently(self._store.failures, job)]

    async def _may_try_again(self, gang: Gang, outcome: Outcome) -> bool:
        """Say whether another attempt is due, after the wait that it needs."""
        store, tell = self._store, self._launcher.tell
        if outcome.status != "failed":
            return False
        if outcome.exit_code == OUT_OF_TIME and outcome.failure is None:
            return False
        failures = await self._failures(gang.job)
        if not failures:
            return False
        verdict = policy.decide(failures, self._retry, self._launcher.cluster.settings.retry_backoff_s)
        if not verdict.again:
            if verdict.why:
                text = f"not tried again: {verdict.why}"
                await store.patiently(store.add_event, "not_retried", text, job=gang.job, severity="warning")
                tell("step", {"text": text})
            return False
        wait = f" in {verdict.wait_s:g} s" if verdict.wait_s else ""
        tell("step", {"text": f"attempt {gang.attempt} failed: {outcome.reason}; trying again{wait}"})
        deadline = time.monotonic() + verdict.wait_s
        orders = Orders(store, gang.job, lambda: None)
        while (left := deadline - time.monotonic()) > 0:
            await orders.look()
            if orders.row.stop_requested or orders.room_for:
                break
            await asyncio.sleep(min(left, _POLL_S))
        return True

    async def _queue_again(self, now: Running, outcome: Outcome, reason: str, *, preempted: bool = False) -> Outcome:
        """Bring in what there is and put the job back into the queue; it keeps its place there."""
        await self._discard_ahead()
        await asyncio.gather(*self._collecting)
        await finish_attempt(self._store, *_of(now), outcome)
        await self._store.patiently(self._store.requeue, now.gang.job, reason, preempted=preempted)
        self._launcher.tell("step", {"text": f"back in the queue: {reason}"})
        return Outcome("pending", reason)

    async def _bring_in(self, now: Running, outcome: Outcome, before: Sequence[asyncio.Task[None]]) -> None:
        """Collect one attempt after the ones before it: all use the same folders on the way, and the newest stays."""
        await asyncio.gather(*before, return_exceptions=True)
        await finish_attempt(self._store, *_of(now), outcome)
        await self._store.patiently(late.note_collected, self._store, now.gang)

    async def _controls(self, job: str) -> bool:
        try:
            await asyncio.wait_for(self._store.patiently(self._store.check_control, job), _RECORD_S)
        except (LostControlError, StateError, TimeoutError):
            return False
        return True

    async def _discard_ahead(self) -> None:
        if self._ahead is not None:
            await self._ahead.discard(leave=self._leaves and not await self._controls(self._ahead.job))
            self._ahead = None


def _of(now: Running) -> tuple[Gang, Mapping[str, Node], Mapping[str, Session]]:
    return now.gang, now.nodes, now.sessions


def _broke(launcher: Launcher, job: str, error: UgroError) -> None:
    late.note_left(launcher.store, job)
    launcher.end("failed", str(error), error.exit_code)


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
    store: Store, gang: Gang, nodes: Mapping[str, Node], sessions: Mapping[str, Session], outcome: Outcome
) -> None:
    """Bring in what an attempt left on the nodes; what cannot be had is an event, not the end of the job."""
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
    await store.patiently(store.release, gang.job)
    await store.patiently(store.set_job, gang.job, "collecting")
    tell("step", {"text": "collecting results"})
    await finish_attempt(store, gang, nodes, sessions, outcome)
    await store.patiently(store.set_job, gang.job, outcome.status, outcome.reason, outcome.exit_code)
    try:
        await store.patiently(results.write_notes, gang.job, store)
    except AwayError:
        raise
    except StateError as error:  # the job has ended all the same; who collects it writes them too
        await store.patiently(store.add_event, "collect_failed", str(error), job=gang.job, severity="error")
    await store.patiently(store.unclaim, gang.job, controller)
