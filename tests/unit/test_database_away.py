# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Jobs while the state database is away; sessions, supervisors and ranks are real."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.integration.support import processes_here
from tests.unit.here import JOB, Here, here, until  # noqa: F401 - a fixture
from ugro_py import takeover
from ugro_py.state import Controller, _patience
from ugro_py.state.away import AwayError

# Goes on for as long as the file `go` is not there, then to its last step.
STEPS = """
import json, os, pathlib, sys, time
rank, folder = int(os.environ["RANK"]), pathlib.Path(sys.argv[1])
with open(os.environ["UGRO_METRICS_FILE"], "a", buffering=1) as metrics:
    step = left = 0
    while left < 5:
        step += 1
        left += (folder / "go").exists()
        metrics.write(json.dumps({"step": step, "training_loss": 1 / step}) + chr(10))
        time.sleep(0.05)
print("did", step, flush=True)
if rank == 1 and (folder / "fail").exists():
    sys.exit(3)
"""


@contextmanager
def locked(here: Here) -> Iterator[None]:
    other = sqlite3.connect(here.folder / "data" / "ugro.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()


def steps(here: Here) -> dict[int, Counter[int]]:
    """Return how often each step of each rank is in metrics.jsonl."""
    found: dict[int, Counter[int]] = {0: Counter(), 1: Counter()}
    for line in here.paths.metrics.read_text().splitlines():
        values = json.loads(line)
        found[values["rank"]][values["step"]] += 1
    return found


def check_every_line_is_there_once(here: Here) -> None:
    for rank, found in steps(here).items():
        done = int(here.paths.rank_log(rank).read_text().split()[-1])
        assert sorted(found) == list(range(1, done + 1))
        assert set(found.values()) == {1}


async def lines(here: Here, more: int) -> None:
    """Wait until there are so many more lines of metrics."""
    count = len(here.paths.metrics.read_text().splitlines()) if here.paths.metrics.exists() else 0
    await until(
        lambda: here.paths.metrics.exists() and len(here.paths.metrics.read_text().splitlines()) >= count + more,
        "lines of metrics",
    )


@pytest.mark.parametrize("how", ["completed", "failed"])
def test_a_job_runs_and_ends_while_the_database_is_locked(here: Here, how: str) -> None:
    async def play() -> Any:
        await here.submit(STEPS, str(here.folder))
        if how == "failed":
            (here.folder / "fail").touch()
        work = asyncio.create_task(here.run())
        await until(lambda: here.store.job(JOB).status == "running" or work.done(), "the job runs")
        await lines(here, 10)
        with locked(here):
            await lines(here, 60)  # they arrive all the same
            (here.folder / "go").touch()
            logs = [here.paths.rank_log(rank) for rank in (0, 1)]
            await until(lambda: all(log.read_text().startswith("did") for log in logs), "the ranks end")
            await until(lambda: here.store.database.outage.away_s > 0, "that they ended is to be written")
            assert not work.done()
            assert here.store.job(JOB).status == "running"
        return await work

    outcome = asyncio.run(play())
    row = here.store.job(JOB)
    assert (row.status, outcome.status) == (how, how)
    check_every_line_is_there_once(here)
    assert here.store.busy() == {}
    assert {rank.rank: rank.exit_code for rank in here.store.ranks(JOB)}[1] == (3 if how == "failed" else 0)
    assert len(here.events("rank_failed")) == (how == "failed")
    assert len(here.events("following")) == 1
    away = [event for event in here.store.events(limit=1000) if event.kind == "database_away"]
    assert len(away) == 1


def test_a_database_that_stays_away_ends_no_job(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its controller leaves, the ranks train on, and the next controller brings it to its end."""
    store = here.store

    async def play() -> None:
        await here.submit(STEPS, str(here.folder))
        work = asyncio.create_task(here.run())
        await until(lambda: store.job(JOB).status == "running" or work.done(), "the job runs")
        await lines(here, 10)
        (pid,) = [rank.pid for rank in store.ranks(JOB) if rank.rank == 0]
        monkeypatch.setattr(_patience, "AWAY_S", 2.0)
        with locked(here):
            # A file that is locked can be read all the time: it is away for who has something to write.
            os.kill(pid, signal.SIGSTOP)
            try:
                await until(lambda: store.database.outage.away_s > 0, "that the rank stands still is to be written")
            finally:
                os.kill(pid, signal.SIGCONT)
            with pytest.raises(AwayError, match="was away for"):
                await work
        attempt = store.attempt(JOB)
        assert attempt is not None and attempt.ended_at is None
        assert pid in processes_here(attempt.token)
        monkeypatch.setattr(_patience, "AWAY_S", 60.0)
        other = Controller(here.me.host, here.me.boot_id, here.me.pid, here.me.start_ticks, here.me)
        adopting = asyncio.create_task(takeover.adopt(store, store.job(JOB), other, lambda kind, data: None))
        await lines(here, 10)
        (here.folder / "go").touch()
        assert (await adopting).status == "completed"

    asyncio.run(play())
    assert store.job(JOB).status == "completed"
    check_every_line_is_there_once(here)
