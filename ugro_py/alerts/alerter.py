"""Reads the store's events and tells people of those that matter. Runs in the agent.

What was read is kept in the store together with what it means, so a restart goes on where the last one was: nothing is
lost, and nothing is told twice but for a notice that was on its way at the very moment of a kill.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

from ugro_py.alerts import meaning
from ugro_py.alerts.dedupe import FLAP_WINDOW, Notice, due, is_done, of_the_moment
from ugro_py.alerts.rules import Rule, Target, rule_for, rules_of
from ugro_py.alerts.sender import BACKOFF_S, TIMEOUT_S, deliver, send
from ugro_py.cluster import Settings
from ugro_py.errors import NotFoundError
from ugro_py.state import Store
from ugro_py.state._alerts import Change
from ugro_py.state.rows import AlertRow, EventRow

POLL_S = 1.0
_BLOCK = 500
_RETENTION_S = 3600.0
_AT_ONCE = 4
_WELL_SINCE = timedelta(seconds=30)


class Alerter:
    """Tells people what the rules of the inventory ask for.

    Args:
        store: the state store.
        settings: of the cluster; `alert_urls` and `alert_rules` say who is told what.
        poll_s: how often it looks for new events.
        backoff_s: how long it waits after each failed try to send.
        how: sends one notice; another one in tests.

    Raises:
        InventoryError: a rule or an address cannot be used.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        poll_s: float = POLL_S,
        backoff_s: Sequence[float] = BACKOFF_S,
        how: Callable[[Target, str, str, str], str] = send,
    ) -> None:
        self._store = store
        self._rules: tuple[Rule, ...] = rules_of(settings)
        self._retention = timedelta(days=settings.health_retention_days)
        self._poll_s, self._backoff_s, self._how = poll_s, tuple(backoff_s), how
        self._users: dict[str, str | None] = {}
        self._on_the_way: dict[int, asyncio.Task[None]] = {}
        self._sending: set[asyncio.Task[bool]] = set()
        self._failing: set[Target] = set()
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._forget_at = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Tell until `stop` is set; what is on its way then gets a moment more."""
        try:
            while not stop.is_set():
                now = datetime.now(UTC)
                # In a thread: a database that is locked must not hold up the loop.
                self._set_out(await self._store.patiently(self._due, now), now)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), self._poll_s)
            if self._on_the_way:
                await asyncio.wait(list(self._on_the_way.values()), timeout=2.0)
        finally:
            for task in (*self._on_the_way.values(), *self._sending):
                task.cancel()

    def step(self, now: datetime | None = None) -> None:
        """Read what is new, and set out to tell what is due. Needs a running loop."""
        now = now or datetime.now(UTC)
        self._set_out(self._due(now), now)

    def _due(self, now: datetime) -> list[tuple[Notice, Rule]]:
        """Read what is new; return what is to be told now."""
        found: list[tuple[Notice, Rule]] = []
        self._read()
        unfinished = self._store.alerts(unfinished=True)
        if self._end_what_answers(unfinished, now):
            unfinished = self._store.alerts(unfinished=True)
        for alert in unfinished:
            if alert.id in self._on_the_way:
                continue
            rule = rule_for(self._rules, alert, self._user(alert.job))
            if is_done(alert, rule):
                self._store.told_of(alert.id, now)
            if rule is None or is_done(alert, rule):
                continue
            notice = due(alert, rule, self._store.times_begun(alert.key, now - FLAP_WINDOW), now)
            if notice is not None:
                found.append((notice, rule))
        if time.monotonic() >= self._forget_at:
            self._forget_at = time.monotonic() + _RETENTION_S
            self._store.forget_events(now - self._retention)
        return found

    def _set_out(self, found: list[tuple[Notice, Rule]], now: datetime) -> None:
        for notice, rule in found:
            task = asyncio.create_task(self._tell(notice, rule, now))
            self._on_the_way[notice.alert.id] = task
            task.add_done_callback(partial(self._forget, notice.alert.id))

    def _forget(self, alert: int, _task: asyncio.Task[None]) -> None:
        self._on_the_way.pop(alert, None)

    # -- reading ----------------------------------------------------------------------------------------------

    def _read(self) -> None:
        reached = self._store.alert_cursor()
        if reached is None:  # what happened before anybody asked for alerts is no news
            self._store.note_alerts([], self._store.newest_event())
            return
        while events := self._store.events_after(reached, _BLOCK):
            told = [self._weighed(event) for event in events]
            changes = [change for event in told for change in meaning.changes(event) if self._matters(change)]
            reached = events[-1].id
            self._store.note_alerts(changes, reached)

    def _weighed(self, event: EventRow) -> EventRow:
        """Return the event of an agent that begins as a warning, where the one before did not end in order."""
        if event.kind != meaning.AGENT_HELD:
            return event
        before = [e for e in self._store.find_events(20, kinds=(event.kind, "lease_given_back")) if e.id < event.id]
        if not before or before[-1].kind != event.kind:
            return event
        return replace(event, severity="warning", text=f"the agent before did not end in order; {event.text}")

    def _matters(self, change: Change) -> bool:
        return not change.begins or rule_for(self._rules, change, self._user(change.job)) is not None

    def _user(self, job: str | None) -> str | None:
        if job is None:
            return None
        if job not in self._users:
            try:
                self._users[job] = self._store.job(job).user
            except NotFoundError:
                self._users[job] = None
        return self._users[job]

    def _end_what_answers(self, unfinished: Sequence[AlertRow], now: datetime) -> bool:
        """End alerts of nodes that a job lost but that the sweeps found well since, and so never said anything of."""
        lost = [
            alert
            for alert in unfinished
            if alert.rule == "node_unreachable" and not alert.resolved_at and now - alert.last_at > _WELL_SINCE
        ]
        if not lost:
            return False
        nodes = {node.name: node for node in self._store.nodes()}
        over = []
        for alert in lost:
            node = nodes.get(alert.node or "")
            well = node.health_at if node and node.health in ("healthy", "degraded") else None
            if well and well - alert.last_at > _WELL_SINCE:
                over.append(Change(alert.key, False, well))
        if over:
            self._store.note_alerts(over, self._store.alert_cursor() or 0)
        return bool(over)

    # -- telling ----------------------------------------------------------------------------------------------

    async def _tell(self, notice: Notice, rule: Rule, at: datetime) -> None:
        """Send a notice to every address of a rule; it counts as told once the first has taken it."""
        sending = {asyncio.create_task(self._send(target, notice)) for target in rule.targets}
        self._sending |= sending
        over = notice.kind == "new" and of_the_moment(notice.alert)
        told = False
        while sending and not told:
            done, sending = await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
            self._sending -= done
            told = any(task.result() for task in done)
        if told:
            await self._store.patiently(self._store.told_of, notice.alert.id, at, over=over)
        for task in sending:  # these addresses are tried on while the alert itself can go on
            task.add_done_callback(self._sending.discard)

    async def _send(self, target: Target, notice: Notice) -> bool:
        """Send a notice to one address, again and again for a while; returns whether it was taken."""
        kind = "over" if notice.kind == "over" else notice.alert.severity
        for wait in (*self._backoff_s, None):
            async with self._at_once:
                why = await deliver(target, notice.title, notice.body, kind, TIMEOUT_S, self._how)
            if not why:
                self._failing.discard(target)
                return True
            if wait is not None:
                await asyncio.sleep(wait)
        if target not in self._failing:  # once, until it works again
            self._failing.add(target)
            text = f"{target.shown} takes no alerts: {why}"
            data = {"target": target.shown}
            await self._store.patiently(self._store.add_event, "alert_failed", text, severity="warning", data=data)
        return False
