"""The agent's lease as its holder and its standby see it: who may act, and since when not any more.

Only monotonic time is compared, each process its own: a holder stops acting `GIVE_UP_S` after its last renewal had
begun, a standby takes over after it saw no renewal for `DURATION_S`, which is longer. Time goes on while a host sleeps.

A database that takes no writes for longer (SQLite, locked) costs nobody the lease: its holder reads that it still has
it, a standby counts no time in which it could not have renewed it itself, and lets `GIVE_UP_S` pass before it acts.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import NoReturn

from ugro_py.errors import StateError
from ugro_py.state import Controller, Store
from ugro_py.state._leases import Lease
from ugro_py.state.away import hurry

DURATION_S = 8.0
GIVE_UP_S = 6.0
RENEW_S = 2.0
HANGS_S = 30.0
"""An agent whose loop did nothing for so long renews no more."""
_LOOK_S = 0.5
_AGAIN_S = 0.25
_BUSY_S = 0.5


def uptime() -> float:
    """Return seconds since boot, those asleep included: what no change of the clock moves."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


class LeaseLostError(StateError):
    """This process may not act any more: another agent holds the lease, or may hold it by now.

    `away`: nobody is known to hold it, the database did not take a renewal in time.
    """

    away = False


class Held:
    """A lease that this process holds.

    Args:
        store: the state store.
        lease: as it was acquired.
        since: `uptime()` before it was.
        clock: what tells the time, for tests.
    """

    def __init__(self, store: Store, lease: Lease, since: float, clock: Callable[[], float] = uptime) -> None:
        self.lease = lease
        self._store = store
        self._clock = clock
        self._renewed = since
        self._alive = since
        self._error: LeaseLostError | None = None

    @property
    def valid(self) -> bool:
        """Whether this process may act."""
        return self._clock() - self._renewed < GIVE_UP_S

    def check(self) -> None:
        """Raise if this process may not act any more.

        Raises:
            LeaseLostError: it may not.
        """
        if not self.valid:
            error = LeaseLostError(
                "act as the agent", f"the lease could not be renewed for {GIVE_UP_S:g} s", "see that the database works"
            )
            error.away = True
            raise error

    async def keep(self) -> None:
        """Renew the lease until it is lost.

        A thread renews it, so that a loop that is busy for some seconds loses nothing; it gives up with a loop that
        hangs.

        Raises:
            LeaseLostError: another agent has it, or the database took no renewal in time.
        """
        ended = threading.Event()
        self._alive = self._clock()
        renewing = threading.Thread(target=self._renew_until, args=(ended,), name="lease", daemon=True)
        renewing.start()
        try:
            while True:
                self._alive = self._clock()
                if self._error is not None:
                    raise self._error
                self.check()
                await asyncio.sleep(_LOOK_S)
        finally:
            ended.set()

    def _renew_until(self, ended: threading.Event) -> None:
        pause = RENEW_S
        while not ended.wait(pause) and self._clock() - self._alive < HANGS_S:
            try:
                pause = RENEW_S if self.renew() else _AGAIN_S
            except LeaseLostError as error:
                self._error = error
                return

    def renew(self) -> bool:
        """Renew the lease once; False where the database took nothing, which is no loss yet.

        Raises:
            LeaseLostError: another agent has it.
        """
        before = self._clock()
        try:
            with hurry(_BUSY_S):
                renewed = self._store.renew_lease(self.lease)
        except StateError:
            self._read_that_it_is_held()
            return False
        if not renewed:
            self._lost()
        self._renewed = before
        return True

    def _read_that_it_is_held(self) -> None:
        """A file that is locked can be read: who takes the lease after this waits until it counts no more."""
        if not self._store.database.sqlite:
            return
        before = self._clock()
        try:
            lease = self._store.lease()
        except StateError:
            return
        if lease is None or lease.term != self.lease.term or lease.duration_s <= 0:
            self._lost()
        self._renewed = before

    def _lost(self) -> NoReturn:
        self._renewed = float("-inf")
        raise LeaseLostError("act as the agent", "another agent holds the lease", "see `ugro agent status`")

    def give_back(self) -> None:
        """Let another agent take over at once; where the database is away, when the lease runs out by itself."""
        self._renewed = float("-inf")
        with contextlib.suppress(StateError):
            self._store.give_back_lease(self.lease)


class Watch:
    """What a standby knows of the lease: since when it was not renewed."""

    def __init__(self, store: Store, clock: Callable[[], float] = uptime) -> None:
        self._store = store
        self._clock = clock
        self._seen: Lease | None = None
        self._since = 0.0
        self.ran_out = False
        """Whether time alone told that the holder is gone."""

    def try_once(self, address: str = "") -> Held | None:
        """Take the lease if it is free, its holder is dead, or it has run out; None otherwise."""
        before = self._clock()
        self.ran_out = False
        lease = self._store.lease()
        if lease is not None and not self._is_over(lease, before):
            return None
        me = Controller.me()
        with hurry(_BUSY_S):
            got = self._store.acquire_lease(me, DURATION_S, address=address, expired=lease)
        return None if got is None else Held(self._store, got, before, self._clock)

    def _is_over(self, lease: Lease, at: float) -> bool:
        if self._seen is None or not lease.same_as(self._seen):
            self._seen, self._since = lease, at
        ran_out = at - self._since > max(lease.duration_s, DURATION_S)
        # Its own, of an earlier try of this process, which stopped acting before it came here.
        own = lease.holder == Controller.me()
        dead = lease.duration_s <= 0 or own or lease.holder.is_alive() is False
        self.ran_out = ran_out and not dead
        return dead or ran_out

    async def wait(self, address: str = "") -> Held:
        """Return the lease as soon as it can be had."""
        while True:
            try:
                held = await asyncio.to_thread(self.try_once, address)
            except StateError:  # a database that is restarted, say: a standby outlasts it
                held, self._seen = None, None  # what its holder could not do either does not count
            if held is not None and self.ran_out and self._store.database.sqlite:
                held = await self._settled(held)
            if held is not None:
                return held
            await asyncio.sleep(_LOOK_S)

    async def _settled(self, held: Held) -> Held | None:
        """Let the time pass for which the one before may have read that it holds the lease."""
        await asyncio.sleep(GIVE_UP_S)
        try:
            return held if await asyncio.to_thread(held.renew) else None
        except LeaseLostError:
            return None
