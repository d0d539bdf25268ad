# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A state database that is away: locked, restarted or silent. Nobody is held up by it, nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.postgres import Postgres
from ugro_py.errors import NotFoundError
from ugro_py.state import Store, _patience
from ugro_py.state.away import AwayError
from ugro_py.state.later import Later

LAG_S = 0.7  # one that waits in the loop holds it up for a second at least


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold SQLite's write lock, as a process would that hangs in the middle of a transaction."""
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ugro.db"


@pytest.fixture
def store(file: Path) -> Iterator[Store]:
    with Store.open(f"sqlite:///{file}") as opened:
        opened.create_job("j", "ob", {})
        yield opened


async def worst_lag(until: asyncio.Future[object] | asyncio.Task[object]) -> float:
    """Return for how long the loop did nothing, at worst, until something has ended.

    In seconds by a thread beside the loop: what a busy machine gives neither of them does not count.
    """
    worst, ticks, over = 0, 0, threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not over.wait(0.02):
            ticks += 1

    beside = threading.Thread(target=tick)
    beside.start()
    try:
        while not until.done():
            before = ticks
            await asyncio.sleep(0.02)
            worst = max(worst, ticks - before - 1)
    finally:
        over.set()
        beside.join()
    return worst * 0.02


async def away(store: Store, seconds: float) -> None:
    """Wait until the database has been away for so long."""
    while store.database.outage.away_s <= seconds:
        await asyncio.sleep(0.02)


def test_a_locked_file_is_waited_for_beside_the_loop(store: Store, file: Path) -> None:
    async def play() -> float:
        with locked(file):
            writing = asyncio.create_task(store.patiently(store.set_job, "j", "running"))
            lag = await worst_lag(asyncio.create_task(away(store, 4)))
            assert not writing.done()
        async with asyncio.timeout(120):
            await writing
        return lag

    lag = asyncio.run(play())
    assert lag < LAG_S, lag
    assert store.job("j").status == "running"
    (event,) = [event for event in store.events() if event.kind == "database_away"]
    assert event.severity == "warning" and (event.data or {})["seconds"] >= 4
    assert "locked" in event.text


def test_many_who_wait_tell_of_one_outage(store: Store, file: Path) -> None:
    async def play() -> None:
        with locked(file):
            writing = [asyncio.create_task(store.patiently(store.add_event, "e", str(n))) for n in range(8)]
            await away(store, 1.5)
            assert (await store.patiently(store.job, "j")).status == "pending"  # it can be read all the time
            await asyncio.sleep(0.5)
        await asyncio.gather(*writing)

    asyncio.run(play())
    kinds = [event.kind for event in store.events()]
    assert kinds.count("database_away") == 1 and kinds.count("e") == 8


def test_it_ends_when_the_database_stays_away(store: Store, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_patience, "AWAY_S", 1.5)

    async def play() -> None:
        with locked(file):
            with pytest.raises(AwayError, match="was away for") as caught:
                await store.patiently(store.set_job, "j", "running")
            assert "jobs go on" in caught.value.next_step
            begun = time.monotonic()
            with pytest.raises(AwayError):  # it is known by now: nobody waits the whole time again
                await store.patiently(store.set_job, "j", "running")
            assert time.monotonic() - begun < 10
        await store.patiently(store.set_job, "j", "running")

    asyncio.run(play())
    assert [event.kind for event in store.events()].count("database_away") == 1


def test_what_is_no_outage_is_raised_at_once(store: Store) -> None:
    async def play() -> None:
        with pytest.raises(NotFoundError):
            await store.patiently(store.job, "nobody")

    asyncio.run(play())
    assert store.database.outage.away_s == 0


def test_writes_are_kept_in_order_and_made_once(store: Store, file: Path) -> None:
    told: list[int] = []

    async def play() -> None:
        later = Later(store, lambda: None)
        with locked(file):
            for number in range(20):
                later.write(store.add_event, "e", str(number))
            later.then(told.append, 1)
            await asyncio.sleep(2.5)
            assert told == []
        await later.flush()
        later.write(store.add_event, "e", "20")
        await later.flush()

    asyncio.run(play())
    assert told == [1]
    assert [event.text for event in store.events() if event.kind == "e"] == [str(number) for number in range(21)]


def test_a_write_that_fails_for_good_is_told(store: Store) -> None:
    async def play() -> None:
        errors: list[str] = []
        later = Later(store, lambda: errors.append("told"))
        later.write(store.set_rank, "j", 1, 0, status="running")
        later.write(store.add_event, "e", "after it")
        with pytest.raises(NotFoundError):
            await later.flush()
        assert errors == ["told"]
        await later.close()

    asyncio.run(play())
    assert [event for event in store.events() if event.kind == "e"] == []


def test_closing_does_not_wait_for_a_database_that_is_away(store: Store, file: Path) -> None:
    async def play() -> float:
        later = Later(store, lambda: None)
        with locked(file):
            later.write(store.add_event, "e", "x")
            begun = time.monotonic()
            await later.close(0.2)
            return time.monotonic() - begun

    assert asyncio.run(play()) < 5


def test_postgresql_is_killed_and_started_again(own_postgres: Postgres) -> None:
    with Store.open(own_postgres.url) as store:
        store.create_job("j", "ob", {})

        async def play() -> float:
            later = Later(store, lambda: None)
            own_postgres.kill()
            for number in range(10):
                later.write(store.add_event, "e", str(number))
            reading = asyncio.create_task(store.patiently(store.job, "j"))
            lag = await worst_lag(asyncio.create_task(away(store, 2)))
            await asyncio.to_thread(own_postgres.start)
            assert (await reading).name == "j"
            await later.flush()
            return lag

        lag = asyncio.run(play())
        assert lag < LAG_S, lag
        events = store.events()
    assert [event.text for event in events if event.kind == "e"] == [str(number) for number in range(10)]
    (told,) = [event for event in events if event.kind == "database_away"]
    assert (told.data or {})["seconds"] >= 2


def test_postgresql_that_answers_nothing_is_an_outage_too(own_postgres: Postgres) -> None:
    with Store.open(own_postgres.url) as store:
        store.create_job("j", "ob", {})

        async def play() -> float:
            frozen = own_postgres.processes()
            for pid in frozen:
                os.kill(pid, signal.SIGSTOP)
            try:
                writing = asyncio.create_task(store.patiently(store.add_event, "e", "once"))
                lag = await worst_lag(asyncio.create_task(away(store, 3)))
            finally:
                for pid in frozen:
                    os.kill(pid, signal.SIGCONT)
            await writing
            return lag

        assert asyncio.run(play()) < LAG_S
        kinds = [event.kind for event in store.events()]
    assert kinds.count("e") == 1 and kinds.count("database_away") == 1
