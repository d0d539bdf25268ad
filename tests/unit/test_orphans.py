# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Ranks that nobody follows any more, found when the agent starts; sessions, supervisors and ranks are real."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.support import processes_here
from tests.unit.here import JOB, Here, here, until  # noqa: F401 - a fixture
from ugro_py.agent.orphans import sweep
from ugro_py.state import Controller, Store
from ugro_py.takeover import adopt_now

# Runs until the file `go` is there.
WAIT = """
import pathlib, sys, time
print("begun", flush=True)
while not pathlib.Path(sys.argv[1], "go").exists():
    time.sleep(0.05)
print("done", flush=True)
"""


async def start_and_leave(here: Here) -> str:
    """Let the ranks of the job run with nobody who follows them; return their token."""
    await here.submit(WAIT, str(here.folder))
    work = asyncio.create_task(here.run())
    logs = [here.on_node(node) / "logs" / f"rank_{rank}.log" for rank, node in enumerate("ab")]
    await until(lambda: work.done() or all(log.exists() and log.read_text() for log in logs), "both ranks run", 120)
    assert not work.done(), (work.result(), here.told, [event.text for event in here.store.events(JOB)])
    await until(lambda: here.store.job(JOB).status == "running", "that they run is known")
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    token = str(json.loads(here.paths.gang(1).read_text())["gang"]["token"])
    assert len(processes_here(token)) >= 2
    return token


async def gone(token: str) -> None:
    await until(lambda: not processes_here(token), "nothing of it runs any more")


def test_what_no_job_owns_is_ended_and_what_another_master_runs_is_not(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = list(here.cluster.nodes)
    backup = tmp_path / "backup.db"

    async def play() -> None:
        here.store.identity()
        with sqlite3.connect(here.folder / "data" / "ugro.db") as now, sqlite3.connect(backup) as copy:
            now.backup(copy)
        token = await start_and_leave(here)
        assert not await sweep(here.store, nodes), "the job runs, and will be adopted"
        # Another database over the same central store, and another master altogether with a job of the same name.
        with Store.open(f"sqlite:///{tmp_path}/other.db") as other:
            assert not await sweep(other, nodes)
            other.create_job(JOB, "eva", {})
            other.set_job(JOB, "failed")
            assert not await sweep(other, nodes)
            monkeypatch.setenv("UGRO_DATA", str(tmp_path / "elsewhere"))
            assert not await sweep(other, nodes)
            monkeypatch.setenv("UGRO_DATA", str(tmp_path / "data"))
        assert len(processes_here(token)) >= 2
        # The database as it was before the job began: nobody will follow it.
        with Store.open(f"sqlite:///{backup}") as restored:
            assert await sweep(restored, nodes)
            found = [event.text for event in restored.events() if event.kind == "stray"]
        assert sorted(text.partition(":")[0] for text in found) == ["a", "b"]
        assert all("which this database does not know" in text for text in found)
        await gone(token)

    asyncio.run(play())


def test_what_belongs_to_an_ended_job_is_ended(here: Here) -> None:
    async def play() -> None:
        token = await start_and_leave(here)
        here.store.set_job(JOB, "failed", "ended by hand", 1)
        assert await sweep(here.store, list(here.cluster.nodes))
        assert sorted(here.events("stray")) == [f"{node}: ended attempt 1, which was over" for node in "ab"]
        await gone(token)
        assert not await sweep(here.store, list(here.cluster.nodes))

    asyncio.run(play())


def test_after_a_reboot_of_the_master_the_job_is_adopted_although_its_controllers_number_is_taken(here: Here) -> None:
    asyncio.run(start_and_leave(here))
    me = Controller.me()
    here.store.unclaim(JOB, me)
    # The same number, start and host in another life of the machine: nobody.
    assert here.store.claim(JOB, replace(me, boot_id="before"))
    assert here.store.job(JOB).controller.is_alive() is False  # type: ignore[union-attr]
    (here.folder / "go").touch()
    outcome = adopt_now(JOB)
    assert outcome and outcome.status == "completed"
    assert here.paths.rank_log(0).read_text() == "begun\ndone\n"
    assert here.store.job(JOB).controller is None
    assert os.getpid() == me.pid
