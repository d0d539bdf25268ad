"""One node as the sweeper sees it: a session that is kept, its heartbeats, and a probe every few seconds."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from ugro_py.cluster import Node
from ugro_py.errors import NodeError
from ugro_py.health import states
from ugro_py.health.knock import knock
from ugro_py.transport import Session

DEADLINE_S = 5.0
"""How long a probe may take; the node itself gives up on a driver, file system or resolver after 3 s."""

OPEN_TIMEOUT_S = 8.0
AGAIN_S = 0.5
"""When a probe is repeated whose outcome needs a second sighting."""

QUIET_S = 1.8
"""So long without a heartbeat (one a second) and the machine is knocked at."""

KNOCK_TIMEOUT_S = 1.0
_PACE_S = 0.2
MUTE_AFTER_S = 15.0
"""A machine that takes connections and says nothing for so long does not count as one that answers."""

_BACK_OFF_S = (1.0, 2.0, 4.0, 8.0)
# Where only the session itself can be asked, a busy machine looks like one that is off for longer.
_WITHOUT_A_DOOR = states.Rules(silence_s=10.0)


class NodeProbe:
    """Watches one node. `changed` is awaited after every probe and whenever the state turns.

    Attributes:
        state: what its probes make of the node.
        report: the newest readings (`session.do_probe`, with `latency_ms` and `clock_offset_s`), None without any.
        report_at: when they came, by `time.monotonic()`.
        error: why the last attempt failed; None after one that did not.
        interval_s: how often it is probed while nothing is the matter.
        probes: how many probes have ended, whatever came of them.
        slowest_s: how long the longest took since somebody last set this to 0.
    """

    def __init__(
        self,
        node: Node,
        judge: Callable[[NodeProbe, dict[str, Any]], set[str]],
        changed: Callable[[NodeProbe], Awaitable[None]],
        interval_s: float,
    ) -> None:
        self.node = node
        self.state = states.NodeState()
        self.report: dict[str, Any] | None = None
        self.report_at = 0.0
        self.error: NodeError | None = None
        self._judge = judge
        self._changed = changed
        self.interval_s = interval_s
        self.probes = 0
        self.slowest_s = 0.0
        self._session: Session | None = None
        self._has_door: bool | None = None
        self._knocking: asyncio.Task[None] | None = None
        self._latencies: deque[float] = deque(maxlen=3)
        self._spoke_at = time.monotonic()
        self._tried = 0
        self._lock = asyncio.Lock()
        self._kick = asyncio.Event()

    @property
    def rules(self) -> states.Rules:
        """The hysteresis that fits how the node can be asked."""
        return states.DEFAULT_RULES if self._has_door is not False else _WITHOUT_A_DOOR

    # -- probes -----------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Probe the node again and again until `stop` (`kick` it then); then end its session."""
        try:
            while not stop.is_set():
                self._kick.clear()
                begun = time.monotonic()
                await self.once()
                # From beginning to beginning: a slow reading must not make the next one late.
                pause = max(_PACE_S, self._pause() - (time.monotonic() - begun))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._kick.wait(), pause)
        finally:
            await self.close()

    def kick(self) -> None:
        """Probe at once, or notice that the end has come."""
        self._kick.set()

    def _pause(self) -> float:
        if self.error is not None:
            longest = len(_BACK_OFF_S) if self.state.observed == "unreachable" else 2
            return min(self.interval_s, _BACK_OFF_S[min(max(self._tried, 1), longest) - 1])
        return self.interval_s if self.state.settled else min(AGAIN_S, self.interval_s)

    async def once(self) -> None:
        """Probe the node; what comes of it is in the attributes. One probe at a time is under way."""
        begun = time.monotonic()
        try:
            await self._once()
        finally:
            self.slowest_s = max(self.slowest_s, time.monotonic() - begun)
            self.probes += 1

    async def _once(self) -> None:
        async with self._lock:
            try:
                session = await self._open()
                if session is None:
                    await self._changed(self)  # still off, and still so to be known
                    return
                await session.measure(DEADLINE_S)
                options = {"address": self.node.address, "train_python": self.node.train_python, "deadline_s": 3.0}
                report = await session.call("probe", timeout_s=DEADLINE_S, **options)
            except NodeError as error:
                await self._not_answered(error)
                return
            self._latencies.append(session.latency_ms)
            # The quickest of the last few shows the network; the rest is how busy either side is.
            report["latency_ms"], report["clock_offset_s"] = min(self._latencies), session.clock_offset_s
            self.report, self.report_at, self.error, self._tried = report, time.monotonic(), None, 0
            self._spoke_at = self.report_at
            problems = self._judge(self, report)
            self.state = states.answered(self.state, self.report_at, problems, self.rules)
        await self._changed(self)

    async def _open(self) -> Session | None:
        if self._session is not None and not self._session.closed:
            return self._session
        await self.close()
        if self.state.observed == "unreachable" and self._has_door and not await knock(self.node, KNOCK_TIMEOUT_S):
            self._tried = max(self._tried, 1)  # still off: nothing to start ssh for
            return None
        try:
            self._session = await Session.open(self.node, timeout_s=OPEN_TIMEOUT_S)
        except OSError as error:
            raise NodeError(f"{self.node.name}: start a session", str(error), "see `ugro check`") from error
        self._session.on_lost = lambda _session: self.kick()
        if self._has_door is None:
            # Not for every node: ssh may know another address, or a way through a third machine.
            self._has_door = self.node.connection == "ssh" and await knock(self.node, 2 * KNOCK_TIMEOUT_S)
        return self._session

    async def _not_answered(self, error: NodeError) -> None:
        self.error = error
        self._tried += 1
        session = self._session
        speaks = session is not None and not session.closed and time.monotonic() - session.last_heard < DEADLINE_S
        if speaks and self.report is not None:
            return  # it lives and is slow: its readings grow old, which is a finding of its own
        self.state = states.failed(self.state, time.monotonic(), self.rules)
        await self.close()
        await self._changed(self)

    async def close(self) -> None:
        """End the session; a new one is opened by the next probe."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # -- heartbeats -------------------------------------------------------------------------------------------

    def pulse(self, now: float) -> None:
        """Look at when the node was last heard; knock where that is too long ago. Called about twice a second."""
        session = self._session
        if self.node.connection == "local" or self.state.observed in ("unknown", "unreachable"):
            return
        if session is not None and session.last_heard > (self.state.heard_at or 0.0):
            self._spoke_at = session.last_heard
            self.state = states.heard(self.state, session.last_heard)
        silent = now - (self.state.heard_at or now)
        if silent > QUIET_S and (self._knocking is None or self._knocking.done()):
            self._knocking = asyncio.create_task(self._ask_whether_on())

    def excuse(self, seconds: float) -> None:
        """Forget a silence that was our own: this process did not run for so long."""
        if self.state.heard_at is not None:
            self.state = states.heard(self.state, self.state.heard_at + seconds)

    async def _ask_whether_on(self) -> None:
        begun = self.state.heard_at
        while self.state.observed != "unreachable" and self.state.heard_at == begun:
            if await self._is_on():
                if time.monotonic() - self._spoke_at < MUTE_AFTER_S:
                    self.state = states.heard(self.state, time.monotonic())
                return
            if self._session is not None and self._session.last_heard > (begun or 0.0):
                return  # it spoke meanwhile
            self.state = states.failed(self.state, time.monotonic(), self.rules)
            await asyncio.sleep(_PACE_S)  # "no route to host" comes at once
        if self.state.observed == "unreachable":
            silent = time.monotonic() - (begun or time.monotonic())
            self.error = NodeError(f"{self.node.name}: heartbeat", f"silent for {silent:.1f} s", "see that it is on")
            await self._changed(self)

    async def _is_on(self) -> bool:
        if self._has_door:
            return await knock(self.node, KNOCK_TIMEOUT_S)
        session = self._session
        if session is None or session.closed:
            await asyncio.sleep(KNOCK_TIMEOUT_S)
            return False
        try:
            await session.call("hello", timeout_s=2 * KNOCK_TIMEOUT_S)
        except NodeError:
            return False
        return True
