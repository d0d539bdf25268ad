"""The second half of a job: follow it, try it again where that may help, collect, release."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ugro_py import checkpoints, late
from ugro_py.call_off import CalledOffError, unless_called_off
from ugro_py.cluster import Node
from ugro_py.endings import OUT_OF_TIME
from ugro_py.errors import StateError, UgroError
from ugro_py.finish import close_attempt, finish, finish_attempt
from ugro_py.gang import Outcome
from ugro_py.launch import Launcher
from ugro_py.orders import Orders
from ugro_py.paths import JobPaths
from ugro_py.plan import Gang
from ugro_py.recovery import policy
from ugro_py.recovery.ahead import Ahead
from ugro_py.recovery.copies import Copies
from ugro_py.recovery.relaunch import NotNowError, Running, relaunch
from ugro_py.state import Store
from ugro_py.state.away import AwayError
from ugro_py.state.fence import LostControlError
from ugro_py.transport import Session, close_all
from ugro_py.watch import Rules, Watcher

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
                # Before the next attempt is recorded: who takes the job over then cannot tell otherwise.
                await store.patiently(late.note_collecting, store, now.gang)
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
                before = self._collecting[-1:]
                self._collecting.append(asyncio.create_task(self._bring_in(now, outcome, before, following.gang)))
                now = following
            await self._give_back(now.gang)
            await asyncio.gather(*self._collecting)
            await finish(store, *_of(now), outcome, launcher)
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
        """Follow one attempt to its end; its checkpoints are in the central store then, as far as nodes answer.

        Its GPUs are free by then, and were while the checkpoints came, unless another attempt is to have them.
        """
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
            await self._has_ended(gang, outcome, watcher.state.step)
            await self._while_wanted(gang, copies.finish())
        finally:
            await copies.cancel()
        return outcome

    async def _has_ended(self, gang: Gang, outcome: Outcome, step: int | None) -> None:
        """Record how an attempt ended, of which no process lives, and free its GPUs if there will be no retry."""
        store = self._store
        if outcome.status == "failed":
            attempt = await store.patiently(store.attempt, gang.job, gang.attempt)
            seconds = (datetime.now(UTC) - attempt.started_at).total_seconds() if attempt else 0.0
            failure = policy.failed(gang.attempt, outcome, step, seconds)
            text = f"attempt {gang.attempt}: {outcome.reason}"
            await store.patiently(store.add_failure, gang.job, gang.attempt, failure.as_dict(), text)
        await store.patiently(close_attempt, store, gang, outcome)
        if not (await self._verdict(gang, outcome)).again:
            await self._give_back(gang)

    async def _while_wanted(self, gang: Gang, copying: Coroutine[Any, Any, None]) -> None:
        """Copy to the end, but keep the GPUs for another attempt only as long as the job is to have one at once."""
        task, orders = asyncio.ensure_future(copying), Orders(self._store, gang.job, lambda: None)
        try:
            while not (await asyncio.wait({task}, timeout=_POLL_S))[0]:
                await orders.look()
                if orders.row.stop_requested or orders.room_for:
                    await self._give_back(gang)
                    break
            await task
        finally:
            task.cancel()

    async def _give_back(self, gang: Gang) -> None:
        """Free the GPUs of a job of which nothing runs: what is to be brought in may take minutes, and needs none."""
        await self._store.patiently(_collecting, self._store, gang)
        await self._discard_ahead()

    async def _failures(self, job: str) -> list[policy.Failed]:
        return [policy.Failed.from_dict(values) for values in await self._store.patiently(self._store.failures, job)]

    async def _verdict(self, gang: Gang, outcome: Outcome) -> policy.Verdict:
        """Say whether another attempt is due."""
        out_of_time = outcome.exit_code == OUT_OF_TIME and outcome.failure is None
        failures = [] if outcome.status != "failed" or out_of_time else await self._failures(gang.job)
        if not failures:
            return policy.Verdict(False)
        return policy.decide(failures, self._retry, self._launcher.cluster.settings.retry_backoff_s)

    async def _may_try_again(self, gang: Gang, outcome: Outcome) -> bool:
        """Say whether another attempt is due, after the wait that it needs."""
        store, tell = self._store, self._launcher.tell
        verdict = await self._verdict(gang, outcome)
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
        await self._give_back(now.gang)
        await asyncio.gather(*self._collecting)
        await finish_attempt(self._store, *_of(now), outcome, self._launcher.cluster.settings.keep_checkpoints)
        await self._store.patiently(self._store.requeue, now.gang.job, reason, preempted=preempted)
        self._launcher.tell("step", {"text": f"back in the queue: {reason}"})
        return Outcome("pending", reason)

    async def _bring_in(
        self, now: Running, outcome: Outcome, before: Sequence[asyncio.Task[None]], following: Gang
    ) -> None:
        """Collect one attempt after the ones before it: all use the same folders on the way, and the newest stays."""
        await asyncio.gather(*before, return_exceptions=True)
        await finish_attempt(self._store, *_of(now), outcome, self._launcher.cluster.settings.keep_checkpoints)
        with contextlib.suppress(OSError):  # one that is renamed just now
            late_one = await asyncio.to_thread(checkpoints.unvouched, JobPaths(now.gang.job))
            if late_one is not None and str(late_one) != following.resume_from:
                why = f"has no manifest, and came when attempt {following.attempt} had begun without it"
                self._launcher.tell("warning", {"text": f"{late_one.name} {why}; see docs/recovery.md"})

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


def _collecting(store: Store, gang: Gang) -> None:
    store.release(gang.job)
    newest = store.attempt(gang.job)
    if newest and newest.number == gang.attempt:  # else one after it could not be started, which a take-over must know
        store.set_job(gang.job, "collecting")


def _broke(launcher: Launcher, job: str, error: UgroError) -> None:
    late.note_left(launcher.store, job)
    launcher.end("failed", str(error), error.exit_code)
