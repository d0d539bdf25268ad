"""Follow a running attempt to its end: mirror its files, notice failures, stop the gang whole.

Watching is a stream: events arrive over each node's session within a tick of the supervisor. A node that falls
silent is suspected at once, tried anew over a connection of its own, and given up in time (recovery/silence.py); a
shorter cut of the network costs nothing. A database that is away costs nothing either: what is to be written waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Mapping
from typing import Any

from ugro_py import endings
from ugro_py.cluster import Node
from ugro_py.errors import NodeError, StateError
from ugro_py.gang import GangState, Outcome
from ugro_py.log_room import LogRoom
from ugro_py.metrics import Appender
from ugro_py.mirror import drain, mirror_of
from ugro_py.orders import Orders, Rules
from ugro_py.paths import EVENTS, TORCHRUN_LOG, JobPaths
from ugro_py.plan import Gang
from ugro_py.recovery.record import Listener, Recorder
from ugro_py.recovery.silence import NODE_LOST_S, SILENCE_S, Silence
from ugro_py.state import Store
from ugro_py.state.later import Later
from ugro_py.transport import Session

# Failures that follow from the first arrive with it; this long we wait to tell which one was first.
SETTLE_S = 0.25
FAILURE_GRACE_S = 0.3
_TICK_S = 0.1
_METRICS_TICK_S = 0.5

__all__ = ["NODE_LOST_S", "SILENCE_S", "Listener", "Rules", "Watcher"]


class Watcher:
    """Follows one attempt.

    Args:
        store: the state store.
        gang: the attempt.
        nodes: its nodes by name.
        sessions: open sessions by node name; the watcher replaces those that are lost.
        listener: called with ("event", {"node", "attempt", "event"}), ("suspect", ...), ("running", ...), ...
        rules: when to end it from here.
    """

    def __init__(
        self,
        store: Store,
        gang: Gang,
        nodes: Mapping[str, Node],
        sessions: dict[str, Session],
        listener: Listener | None = None,
        rules: Rules | None = None,
    ) -> None:
        self.state = GangState({place.rank: place.node for place in gang.placements})
        self.sessions = sessions
        self.paths = JobPaths(gang.job)
        self._gang = gang
        self._key: dict[str, Any] = {"job": gang.job, "attempt": gang.attempt}
        self._nodes = nodes
        self._listener = listener or (lambda kind, data: None)
        self._rules = rules or Rules()
        self._wake = asyncio.Event()
        self._later = Later(store, self._wake.set)
        self._orders = Orders(store, gang.job, self._wake.set)
        self._recorder = Recorder(store, self._later, gang, self.state, self._listener)
        self._silence = Silence(
            nodes, sessions, expected=self._expected, follow=self._follow, suspect=self._suspect,
            back=self._recorder.back, lose=self.lose,
        )  # fmt: skip
        self._mirrors = {name: mirror_of(gang, name) for name in gang.nodes}
        self._room = LogRoom(self.paths.root, self._mirrors, self._recorder.logs, self._follow_anew)
        self._appender = Appender(self.paths)
        self._offsets = {name: session.clock_offset_s for name, session in sessions.items()}
        self._closing: list[asyncio.Task[None]] = []
        self._reachable: set[str] = set()
        self._error: StateError | None = None
        self._heard = time.monotonic()

    async def run(self, lost: Iterable[tuple[str, str]] = ()) -> Outcome:
        """Follow to the end and return how it ended; no process of the gang lives after it on any node that answers.

        `lost`: nodes that could not be reached to begin with, and why; one that had finished by then is none.

        Raises:
            LostControlError: the job is another controller's, which follows the ranks.
            AwayError: the database stayed away; the ranks go on, and another controller follows them later.
            StateError: the central store cannot be written.
        """
        await self._orders.look()
        self.state.stop_asked = self._orders.row.stop_requested
        for place in self._gang.placements:
            self.paths.rank_log(place.rank).touch()  # a rank that prints nothing has an empty log, not none
        if any(mirror.offset(EVENTS) for mirror in self._mirrors.values()):
            await self._recorder.replay()
        for name, mirror in self._mirrors.items():
            for event in mirror.replay():
                self._take(name, event)
        self._recorder.replayed()
        for name, why in lost:
            if self._expected(name):
                self.lose(name, why)
        await asyncio.gather(*map(self._follow, list(self.sessions.values())))
        self._recorder.following(bool(self._orders.row.reason))
        self._orders.keep()
        next_poll, began = 0.0, time.monotonic()
        outcome: Outcome | None = None
        try:
            while outcome is None and not self.state.over:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), _TICK_S)
                self._wake.clear()
                if error := self._error or self._orders.error or self._later.error:
                    raise error
                now = time.monotonic()
                self._silence.look()
                self._room.look()
                if now >= next_poll:
                    next_poll = now + _METRICS_TICK_S
                    self._appender.poll()
                outcome = await self._asked_to_end(now - began)
                if self.state.failures and outcome is None:
                    outcome = await self._fail()
                elif outcome is None and 0 < self._rules.stall_timeout_s < now - self._heard:
                    outcome = await self._stalled()
            if outcome is None:  # without a failure all is done, or an earlier controller had it stopped
                outcome = await self._fail() if self.state.failures else self._ended()
            self._room.look(ending=True)
            await self._drain()
            self._room.look(last=True)
            await self._later.flush()
        finally:
            self._silence.cancel()
            await self._orders.end()
            await self._later.close()
            await asyncio.gather(*self._closing)
            self._appender.poll()
            for mirror in self._mirrors.values():
                mirror.close()
        return outcome

    def _ended(self) -> Outcome:
        if not self.state.stopping:
            return Outcome("completed")
        return self._told(endings.ending(self.state.told or endings.STOPPED))

    def _told(self, end: endings.Ending | None) -> Outcome:
        assert end is not None
        if end.status == "failed":
            self._listener("failed", {"text": end.text, "rank": None, "last_lines": []})
        return Outcome.told(end, self._gone)

    # -- what the nodes send ----------------------------------------------------------------------------------

    async def _follow(self, session: Session) -> None:
        """Have the node send everything from where its copies end; one that fell silent just now is reached anew."""
        name = session.node.name
        session.on_push = lambda message: self._on_push(name, message)
        session.on_lost = lambda lost: self._silence.recover(name)
        wanted = self._mirrors[name].wanted(self._gang.numbers_on(name))
        try:
            await session.call("follow", **self._key, timeout_s=NODE_LOST_S, **wanted)
        except NodeError:
            self._silence.recover(name)

    def _follow_anew(self) -> None:
        self._heard = time.monotonic()
        self._closing += [asyncio.create_task(self._follow(session)) for session in self.sessions.values()]

    def _on_push(self, name: str, message: dict[str, Any]) -> None:
        if message.get("attempt") not in (None, self._gang.attempt):
            return  # the rest of an attempt before this one
        if message["push"] == "bytes":
            if message["path"].startswith("logs/rank_"):
                self._heard = time.monotonic()
            try:
                for event in self._mirrors[name].write(message["path"], message["offset"], message["data"]):
                    self._take(name, event)
            except StateError as error:  # the store is full, say: `run` ends the job, the session is not to blame
                self._error = error
                self._wake.set()
        elif message["push"] == "state" and message["state"] in ("lost", "absent") and self._expected(name):
            self.lose(name, f"its supervisor is gone (attempt {message['state']})", reachable=True)

    def _take(self, name: str, event: dict[str, Any]) -> None:
        self.state.apply(name, event, self._offsets.get(name, 0.0))
        if event["kind"] in ("rank_started", "metrics", "checkpoint"):  # the supervisor's samples are no progress
            self._heard = time.monotonic()
        self._recorder.take(name, event)
        if event["kind"] == "rank_frozen" and self._rules.restart_frozen:
            self.state.rank_stands_still(event["rank"])
        self._rules.on_event(name, event)
        self._listener("event", {"node": name, "attempt": self._gang.attempt, "event": event})
        if event["kind"] in ("rank_exited", "finished", "gpu_lost", "rank_frozen"):
            self._wake.set()

    # -- nodes that fall silent -------------------------------------------------------------------------------

    def _expected(self, name: str) -> bool:
        return name not in self.state.lost and name not in self.state.finished

    def _suspect(self, name: str) -> None:
        self._recorder.suspect(name)
        self._listener("suspect", {"node": name})

    @property
    def _gone(self) -> tuple[str, ...]:
        """The lost nodes of which nothing more is to be had."""
        return tuple(name for name in self.state.lost if name not in self._reachable)

    def lose(self, name: str, why: str, reachable: bool = False) -> None:
        """Give a node up, and with its ranks the gang; one still `reachable` is stopped and collected as any."""
        self.state.node_lost(name, why, time.time())
        self._recorder.lost(name, why)
        if reachable:
            self._reachable.add(name)
        elif name in self.sessions:  # whoever still waits for an answer of this node must not wait longer
            self._closing.append(asyncio.create_task(self.sessions[name].close()))
        self._wake.set()

    # -- ends -------------------------------------------------------------------------------------------------

    async def _fail(self) -> Outcome:
        """Stop the gang because something failed, and tell what failed first."""
        await self.stop_gang(endings.FAILED, FAILURE_GRACE_S, settle_s=SETTLE_S)
        first = self.state.first_failure
        assert first is not None
        # What torchrun printed explains a failure that no rank's log does.
        lines = first.last_lines or (self._mirrors[first.node].tail(f"logs/{TORCHRUN_LOG}") if first.node else [])
        self._recorder.failed_first(first.rank)
        self._listener("failed", {"text": first.text, "rank": first.rank, "last_lines": lines})
        return Outcome("failed", first.text, first.exit_code or 1, first, self._gone, lines)

    async def _asked_to_end(self, ran_s: float) -> Outcome | None:
        """End the gang where a person, the queue or the job's time limit asks for it: checkpoint first."""
        told = self.state.told or self._orders.reason(bool(self.state.failures))
        rules = self._rules
        if told is None and rules.time_limit_s and rules.time_left_s is not None and ran_s >= rules.time_left_s:
            told = endings.out_of_time(rules.time_limit_s)
        return None if told is None else await self._end(told)

    async def _stalled(self) -> Outcome | None:
        """End a gang of which nothing is heard, unless it only prints and its logs are not copied (any more)."""
        self._heard = time.monotonic()
        deaf = self._room.deaf and self.state.step is None
        return None if deaf else await self._end(endings.stalled(self._rules.stall_timeout_s), FAILURE_GRACE_S)

    async def _end(self, reason: str, grace_s: float | None = None) -> Outcome:
        """SIGTERM to the ranks, which get the grace period for a checkpoint; a stop by force cuts it short."""
        grace = 0.0 if self._orders.row.stop_force else self._rules.grace_s if grace_s is None else grace_s
        self._listener("stopping", {"grace_s": grace})
        stopping = asyncio.create_task(self.stop_gang(reason, grace))
        try:
            while not stopping.done():
                await asyncio.wait({stopping}, timeout=_TICK_S)
                if grace and self._orders.row.stop_force:
                    grace = 0.0
                    await self.stop_gang("stop forced", grace)
            await stopping
        finally:  # whoever leaves the job closes its sessions: no node is lost by that
            stopping.cancel()
        return self._told(endings.ending(reason))

    async def stop_gang(self, reason: str, grace_s: float, settle_s: float = 0.0) -> None:
        """Stop the attempt on every node that answers, all at once.

        Raises:
            LostControlError: the job is another controller's; no node was told anything.
        """
        await asyncio.gather(asyncio.sleep(settle_s), self._orders.check())
        self.state.stop_asked = True
        await asyncio.gather(*(self._stop_node(name, reason, grace_s) for name in self.sessions))

    async def _stop_node(self, name: str, reason: str, grace_s: float) -> None:
        while name not in self._gone:
            session = self.sessions[name]
            try:
                done = await session.call("stop", **self._key, reason=reason, grace_s=grace_s, timeout_s=grace_s + 15.0)
            except NodeError as error:
                if session.closed and await self._silence.regained(name):
                    continue  # the node does what it was told; it is asked how that ended
                self._reachable.discard(name)
                self.lose(name, error.came_back)
                return
            if done["left"]:
                self._recorder.left_over(name, done["left"])
            return

    async def _drain(self) -> None:
        """Wait until every node that answers has sent all it wrote."""
        for name in [name for name in self.sessions if name not in self._gone]:
            with contextlib.suppress(NodeError):
                await drain(self.sessions[name], self._mirrors[name], self._key, self._room.look)
