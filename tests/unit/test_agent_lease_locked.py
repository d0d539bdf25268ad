# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The agent's lease while its database takes no writes."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.test_agent_lease import AWAY, Clock
from ugro_py.agent import lease as module
from ugro_py.agent.lease import DURATION_S, GIVE_UP_S, LeaseLostError, Watch
from ugro_py.state import Controller, Store
from ugro_py.state.away import AwayError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ugro.db"


@pytest.fixture
def store(file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(module, "_BUSY_S", 0.05)
    with Store.open(f"sqlite:///{file}") as opened:
        yield opened


@contextmanager
def locked(file: Path) -> Iterator[None]:
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()


def test_a_holder_that_can_read_keeps_it_however_long_the_file_is_locked(store: Store, file: Path) -> None:
    clock = Clock()
    held = Watch(store, clock).try_once()
    assert held is not None
    with locked(file):
        for _ in range(6):
            clock.now += GIVE_UP_S - 1
            assert not held.renew()
            assert held.valid
        clock.now += GIVE_UP_S
        assert not held.valid  # who looks no more acts no more
    assert held.renew()


def test_a_holder_that_reads_of_another_has_lost_it(store: Store, file: Path) -> None:
    clock = Clock()
    held = Watch(store, clock).try_once()
    assert held is not None
    assert store.acquire_lease(AWAY, DURATION_S, expired=store.lease())
    with locked(file), pytest.raises(LeaseLostError):
        held.renew()
    assert not held.valid


def test_time_in_which_nobody_could_renew_does_not_count(
    store: Store, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = store.acquire_lease(AWAY, DURATION_S)
    assert lease
    clock = Clock()
    watch = Watch(store, clock)
    assert watch.try_once() is None
    monkeypatch.setattr(module, "_LOOK_S", 0.02)

    async def play() -> None:
        clock.now += 100
        with locked(file):
            with pytest.raises(AwayError):
                watch.try_once()
            waiting = asyncio.create_task(watch.wait())
            await asyncio.sleep(0.5)
        await asyncio.sleep(0.5)
        assert not waiting.done()
        assert store.renew_lease(lease)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(play())


def test_who_takes_over_by_time_alone_waits_until_no_other_can_act(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GIVE_UP_S", 0.5)
    monkeypatch.setattr(module, "_LOOK_S", 0.02)
    assert store.acquire_lease(AWAY, DURATION_S)
    clock = Clock()
    watch = Watch(store, clock)
    assert watch.try_once() is None  # its time counts from here

    async def play() -> float:
        loop = asyncio.get_running_loop()
        waiting = asyncio.create_task(watch.wait())
        await asyncio.sleep(0.2)
        clock.now += DURATION_S + 1
        begun = loop.time()
        async with asyncio.timeout(30):
            held = await waiting
        assert held.lease.holder == Controller.me()
        return loop.time() - begun

    assert asyncio.run(play()) >= 0.5
