# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The agent's lease: one holder, growing terms, and a standby that never acts beside it."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ugro_py.agent.lease import DURATION_S, GIVE_UP_S, Held, LeaseLostError, Watch
from ugro_py.errors import StateError
from ugro_py.state import Controller, Store
from ugro_py.state._leases import Lease

HERE = Controller.me()
# A process of another host: whether it lives cannot be seen.
AWAY = Controller("elsewhere", "boot", 7, 70)


class Clock:
    """A clock that goes on when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_lease_has_one_holder_and_a_growing_term(store: Store) -> None:
    assert store.lease() is None
    first = store.acquire_lease(AWAY, 8.0, address="elsewhere")
    assert first is not None and (first.term, first.address, first.held) == (1, "elsewhere", True)
    assert store.acquire_lease(HERE, 8.0) is None
    assert store.renew_lease(first)
    # Renewed since it was read: whoever took it for dead is wrong.
    assert store.acquire_lease(HERE, 8.0, expired=first) is None
    seen = store.lease()
    assert seen is not None
    second = store.acquire_lease(HERE, 8.0, expired=seen)
    assert second is not None and second.term == 2 and second.holder == HERE
    assert not store.renew_lease(first)
    store.give_back_lease(first)
    assert store.renew_lease(second)
    store.give_back_lease(second)
    after = store.lease()
    assert after is not None and not after.held
    third = store.acquire_lease(AWAY, 8.0)
    assert third is not None and third.term == 3


def test_of_many_that_want_it_one_gets_it(store: Store) -> None:
    got: list[Lease | None] = []
    start = threading.Barrier(6)

    def take(number: int) -> None:
        start.wait()
        got.append(store.acquire_lease(replace(AWAY, pid=number), 8.0))

    threads = [threading.Thread(target=take, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([lease for lease in got if lease]) == 1
    assert len(got) == 6


def test_a_dead_holder_of_this_host_is_followed_at_once(store: Store) -> None:
    process = subprocess.Popen(["sleep", "60"])
    try:
        assert store.acquire_lease(Controller.of(process.pid), 8.0)
        watch = Watch(store)
        assert watch.try_once() is None
    finally:
        process.kill()
        process.wait()
    held = watch.try_once()
    assert held is not None and held.lease.term == 2 and held.valid


def test_a_holder_from_before_a_reboot_is_followed_at_once_although_its_number_is_taken(store: Store) -> None:
    assert store.acquire_lease(replace(HERE, boot_id="before"), 8.0)
    held = Watch(store).try_once()
    assert held is not None and held.lease.term == 2
    assert replace(HERE, boot_id="before") in store.former_holders()


def test_a_silent_holder_elsewhere_is_followed_when_its_lease_has_run_out(store: Store) -> None:
    clock = Clock()
    lease = store.acquire_lease(AWAY, DURATION_S)
    assert lease is not None
    watch = Watch(store, clock)
    assert watch.try_once() is None
    clock.now += DURATION_S - 1
    assert watch.try_once() is None
    assert store.renew_lease(lease)  # slow, but it lives
    clock.now += 2
    assert watch.try_once() is None
    clock.now += DURATION_S + 0.1
    held = watch.try_once()
    assert held is not None and held.lease.term == 2
    assert not store.renew_lease(lease)


def test_who_cannot_renew_stops_acting_and_who_lost_it_at_once(store: Store) -> None:
    clock = Clock()
    watch = Watch(store, clock)
    held = watch.try_once()
    assert held is not None
    clock.now += GIVE_UP_S - 0.1
    held.check()
    held.renew()
    clock.now += GIVE_UP_S - 0.1
    assert held.valid
    clock.now += 0.2
    with pytest.raises(LeaseLostError):
        held.check()
    again = Watch(store, clock).try_once()  # the same process may try again
    assert again is not None and again.lease.term == 2
    with pytest.raises(LeaseLostError, match="another agent"):
        held.renew()
    again.give_back()
    assert not again.valid


class Unusable:
    """A store whose database takes nothing."""

    database = SimpleNamespace(sqlite=False)

    def renew_lease(self, lease: Lease) -> bool:
        raise StateError("state database", "database is locked")

    give_back_lease = renew_lease


def test_an_agent_whose_database_is_away_ends_all_the_same(store: Store) -> None:
    clock = Clock()
    held = Watch(store, clock).try_once()
    assert held is not None
    gone = Held(Unusable(), held.lease, clock(), clock)  # type: ignore[arg-type]
    gone.give_back()
    assert not gone.valid


def test_a_database_that_takes_nothing_for_a_moment_is_no_loss(store: Store) -> None:
    lease = store.acquire_lease(HERE, DURATION_S)
    assert lease is not None
    clock = Clock()
    held = Held(Unusable(), lease, clock(), clock)  # type: ignore[arg-type]
    clock.now += GIVE_UP_S - 1
    held.renew()
    assert held.valid
    clock.now += 1.1
    assert not held.valid


def test_keeping_ends_when_another_takes_over(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ugro_py.agent.lease.RENEW_S", 0.02)

    async def lose() -> None:
        held = await Watch(store).wait()
        keeping = asyncio.create_task(held.keep())
        await asyncio.sleep(0.2)
        assert not keeping.done()
        while True:
            seen = await asyncio.to_thread(store.lease)
            if await asyncio.to_thread(store.acquire_lease, AWAY, 8.0, expired=seen):
                break
        with pytest.raises(LeaseLostError):
            await asyncio.wait_for(keeping, 60)
        assert not held.valid

    asyncio.run(lose())


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["work", "freeze"]), st.floats(0.0, 12.0)), max_size=40
    )
)
def test_never_two_act(moves: list[tuple[str, str, float]]) -> None:
    """Two hosts with clocks of their own, each working or frozen for any time: at no moment may both act."""
    row = _Row()
    start = {"a": 1000.0, "b": 5.0}  # since boot
    now = 0.0
    watches = {name: Watch(row.store(name), lambda name=name: start[name] + now) for name in start}  # type: ignore
    held: dict[str, Held] = {}
    for name, what, passes in moves:
        now += passes
        if what == "work":
            try:
                if name in held and held[name].valid:
                    held[name].renew()
                else:
                    got = watches[name].try_once()
                    if got:
                        held[name] = got
            except LeaseLostError:
                pass
        assert sum(one.valid for one in held.values()) <= 1


class _Row:
    """The lease in a database that two hosts see; what `Leases` does with it, in memory."""

    def __init__(self) -> None:
        self.lease: Lease | None = None
        self.renewals = 0

    def store(self, name: str) -> Store:
        return _Seen(self, Controller(name, name, 1, 1))  # type: ignore[return-value]


class _Seen:
    def __init__(self, row: _Row, me: Controller) -> None:
        self.row, self.me = row, me

    def lease(self) -> Lease | None:
        return self.row.lease

    def acquire_lease(self, holder: Controller, duration_s: float, **options: object) -> Lease | None:
        old, expired = self.row.lease, options["expired"]
        if old and not (isinstance(expired, Lease) and expired.same_as(old)):
            return None
        self.row.renewals += 1
        self.row.lease = _lease(old.term + 1 if old else 1, self.me, self.row.renewals)
        return self.row.lease

    def renew_lease(self, lease: Lease) -> bool:
        assert self.row.lease
        if self.row.lease.term != lease.term:
            return False
        self.row.renewals += 1
        self.row.lease = _lease(lease.term, self.me, self.row.renewals)
        return True


def _lease(term: int, holder: Controller, renewals: int) -> Lease:
    from datetime import UTC, datetime

    at = datetime.fromtimestamp(renewals, UTC)
    return Lease("agent", term, holder, "", at, at, DURATION_S, 0.0)
