"""The agent as a process: the lease, the loop, the parts beside it, and a clean end.

It acts only while it holds the lease. Whatever ends it, the jobs go on: their nodes keep the facts, and the next agent,
or the next verb, goes on from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ugro_py.agent.inventory import Inventory
from ugro_py.agent.jobs import Jobs
from ugro_py.agent.lease import Held, LeaseLostError, Watch
from ugro_py.agent.loop import Loop
from ugro_py.agent.notify import Notifier
from ugro_py.agent.orphans import sweep_all
from ugro_py.agent.parts import Parts
from ugro_py.agent.timings import Timings
from ugro_py.agent.wiring import part_makers
from ugro_py.errors import StateError
from ugro_py.state import Controller, Store
from ugro_py.state._patience import AWAY_S
from ugro_py.state.away import AwayError

if TYPE_CHECKING:
    from ugro_py.api.server import Listen
    from ugro_py.api.view import Timing
    from ugro_py.cluster import Cluster
    from ugro_py.health.sweeper import Sweeper

ROUND_S = 1.0
_LOOK_AT_INVENTORY_S = 2.0
_HARD_END_S = 10.0
"""After this long an end that hangs (a database that is locked) is made one: nothing depends on it being clean."""
_log = logging.getLogger("ugro.agent")


class Agent:
    """The agent while it holds the lease; what the API sees of it is `ugro_py.api.view.AgentView`.

    Args:
        store: the state store.
        inventory: the cluster.
        held: the lease.
        timings: where the loops note their times.
        listen: a TCP door of the API, beside its socket.
        dashboard: a port of the loopback for browsers; 0 for none.
    """

    def __init__(
        self,
        store: Store,
        inventory: Inventory,
        held: Held,
        timings: Timings,
        listen: Listen | None = None,
        dashboard: int = 0,
    ) -> None:
        self.listen = listen
        self.dashboard = dashboard
        self.on_inventory: Callable[[Cluster], None] | None = None
        self.sweeper: Sweeper | None = None
        self.held = held
        self.inventory = inventory
        self.clock = timings
        me = Controller.me()
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._parts = Parts(store)
        self.jobs = Jobs(store, me, self._wake.set, lambda: held.valid, held.lease)
        self.jobs.sweep = lambda: sweep_all(store, self.cluster)
        self._rounds = Loop(store, self.jobs, me, store.former_holders(), held.check)

    watches = True

    @property
    def store(self) -> Store:
        """The state of the cluster."""
        return self._store

    @property
    def cluster(self) -> Cluster:
        """The inventory as it is now."""
        return self.inventory.cluster

    def timings(self) -> Mapping[str, Timing]:
        """Return the timing of each loop by its name."""
        return self.clock.all()

    def readings(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the newest readings of each node that answers; none before the first health sweep."""
        return self.sweeper.reports() if self.sweeper is not None else {}

    def wake(self) -> None:
        """Have the next round now; from any thread."""
        self._loop.call_soon_threadsafe(self._wake.set)

    async def run(self, stop: asyncio.Event) -> None:
        """Act until `stop` is set.

        Raises:
            LeaseLostError: another agent acts now, or may.
        """
        keeping = asyncio.create_task(self.held.keep(), name="lease")
        acting = asyncio.create_task(self._act(), name="rounds")
        stopping = asyncio.create_task(stop.wait())
        try:
            for name, (make, _) in part_makers(self).items():
                self._parts.start(name, make)
            await asyncio.wait({keeping, acting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (acting, stopping):
                task.cancel()
            # First what acts: whoever lost the lease must be silent at once.
            await asyncio.gather(self.jobs.leave(), self._parts.stop(), return_exceptions=True)
            results = await asyncio.gather(acting, stopping, return_exceptions=True)
        if keeping.done():
            await keeping
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await asyncio.to_thread(self.held.give_back)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _act(self) -> None:
        looked = 0.0
        while True:
            self._wake.clear()
            now = begun = self._loop.time()
            try:
                if now - looked > _LOOK_AT_INVENTORY_S:
                    looked = now
                    if await asyncio.to_thread(self.inventory.changed):
                        await self._restart_parts()
                with self.clock.round("schedule"):
                    await self._rounds.round(self.cluster)
            except LeaseLostError:
                raise
            except StateError as error:  # the database is busy or gone for a moment: the next round tries again
                _log.error("%s", error)
            except Exception:  # noqa: BLE001  a fault in one round must not end the agent: the jobs it follows go on
                _log.exception("a round failed")
            # Who submits a thousand jobs wakes this a thousand times: no more than a third of the time goes here.
            await asyncio.sleep(min(2 * (self._loop.time() - begun), ROUND_S))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), ROUND_S)

    async def _restart_parts(self) -> None:
        if self.on_inventory is not None:
            self.on_inventory(self.cluster)
        for name, (make, of_the_inventory) in part_makers(self).items():
            if of_the_inventory:
                await self._parts.restart(name, make)


async def run_agent(
    store: Store,
    inventory: Inventory,
    *,
    standby: bool = False,
    listen: Listen | None = None,
    dashboard: int = 0,
) -> None:
    """Be the agent until SIGTERM or SIGINT.

    Args:
        store: the state store.
        inventory: the cluster.
        standby: where another agent acts, wait and take over when it ends; else that is an error.
        listen: a TCP door of the API.
        dashboard: a port of the loopback for browsers; 0 for none.

    Raises:
        StateError: another agent acts, or took over meanwhile.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _end, stop)
    notifier, timings = Notifier(), Timings()
    dog = asyncio.create_task(_tell_that_it_lives(notifier), name="watchdog")
    try:
        while not stop.is_set():
            held = await _get_lease(store, stop, notifier, standby)
            if held is None:
                return
            try:
                agent = Agent(store, inventory, held, timings, listen, dashboard)
                _log.info("acts for cluster %s, term %d", inventory.cluster.name, held.lease.term)
                notifier.tell("READY=1", f"STATUS=acts for cluster {inventory.cluster.name}")
                await agent.run(stop)
            except LeaseLostError as error:
                if not (standby or error.away):
                    raise
                _log.error("%s; waits", error)
            except AwayError as error:  # of the moment between the lease and the first round
                _log.error("%s", error)
    finally:
        notifier.tell("STOPPING=1")
        dog.cancel()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _end(stop: asyncio.Event) -> None:
    stop.set()
    timer = threading.Timer(_HARD_END_S, os._exit, (1,))
    timer.daemon = True
    timer.start()


async def _get_lease(store: Store, stop: asyncio.Event, notifier: Notifier, standby: bool) -> Held | None:
    """Return the lease; None if this process is to end before it can be had."""
    watch = Watch(store)
    address = socket.gethostname()
    try:
        held = await _tried(watch, address, stop)
        other = None if held or stop.is_set() else await asyncio.to_thread(store.lease)
    except AwayError:
        if not standby:
            raise
        held = other = None
    if held is not None or stop.is_set():
        return held
    who = f"process {other.holder.pid} on {other.holder.host}" if other else "another process"
    if not standby:
        raise StateError(
            "start the agent", f"{who} is the agent",
            "see `ugro agent status`; with --standby this one waits and takes over",
        )  # fmt: skip
    _log.info("waits: %s is the agent", who)
    notifier.tell("READY=1", f"STATUS=standby of {who}")
    waiting = asyncio.create_task(watch.wait(address))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not stop.is_set():
        return await waiting
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        (await waiting).give_back()
    return None


async def _tried(watch: Watch, address: str, stop: asyncio.Event) -> Held | None:
    """Try to get the lease, again where the database is away, but no longer than `AWAY_S`.

    Raises:
        AwayError: it stayed away.
    """
    deadline = time.monotonic() + AWAY_S
    while not stop.is_set():
        try:
            return await asyncio.to_thread(watch.try_once, address)
        except AwayError:
            if time.monotonic() > deadline:
                raise
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), ROUND_S)
    return None


async def _tell_that_it_lives(notifier: Notifier) -> None:
    """Feed the watchdog from the loop itself: one that hangs is killed by systemd, and starts again."""
    while notifier.watchdog_s:
        notifier.tell("WATCHDOG=1")
        await asyncio.sleep(notifier.watchdog_s / 3)
