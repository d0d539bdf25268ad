# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What a job prints does not fill the master's disk, and costs it nothing else."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from tests.unit.here import JOB, Here, here, until  # noqa: F401 - a fixture
from ugro_py import experiments, late, log_room, metrics
from ugro_py.errors import StateError
from ugro_py.explain.classify import explain
from ugro_py.explain.facts import gather
from ugro_py.mirror import Mirror
from ugro_py.paths import EVENTS, JobPaths

MIB = 1 << 20
PRINTS = "import sys, time\nfor _ in range(64):\n    print('x' * 65535)\nprint('last', flush=True)\n"


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mirror:
    monkeypatch.setenv("UGRO_DATA", str(tmp_path))
    JobPaths(JOB).root.mkdir(parents=True)
    return Mirror(JobPaths(JOB), 1, "a", [0], 10)


def b64(text: bytes) -> str:
    return base64.b64encode(text).decode()


def test_a_log_ends_at_its_limit_and_events_do_not(mirror: Mirror) -> None:
    for start in range(0, 40, 8):
        mirror.write("logs/rank_0.log", start, b64(b"12345678"))
        mirror.write(EVENTS, start, b64(b"12345678"))
    assert JobPaths(JOB).rank_log(0).read_bytes() == b"1234567812"
    assert mirror.offset(EVENTS) == 40
    assert mirror.has({"logs/rank_0.log": 40, EVENTS: 40})
    assert not mirror.has({"logs/rank_0.log": 40, EVENTS: 41})
    assert mirror.newly_full() == ["logs/rank_0.log"]
    assert mirror.newly_full() == []


def test_logs_of_ranks_that_a_node_does_not_have_are_not_taken(mirror: Mirror) -> None:
    for name in ("logs/rank_1.log", "logs/mine.log"):
        mirror.write(name, 0, b64(b"12345678"))
    assert mirror.has({"logs/rank_1.log": 8, "logs/mine.log": 8})
    assert [path.name for path in JobPaths(JOB).root.rglob("*.log")] == []


def test_a_log_of_an_earlier_attempt_goes_to_that_attempt(mirror: Mirror) -> None:
    paths = JobPaths(JOB)
    mirror.write("logs/rank_0.log", 0, b64(b"first "))
    mirror.close()
    paths.keep_logs(1)
    second = Mirror(paths, 2, "a", [0], 10)
    second.write("logs/rank_0.log", 0, b64(b"second"))
    again = Mirror(paths, 1, "a", [0], 10)
    again.write("logs/rank_0.log", 6, b64(b"end"))
    again.close()
    second.close()
    assert (paths.attempt(1) / "rank_0.log").read_text() == "first end"
    assert paths.rank_log(0).read_text() == "second"


def test_a_job_that_prints_too_much_completes_and_says_so(here: Here) -> None:
    here.settings(log_limit_gb=1 / 1024)

    async def play() -> Any:
        await here.submit(PRINTS)
        return await asyncio.wait_for(here.run(), 120)

    assert asyncio.run(play()).status == "completed"
    assert [here.paths.rank_log(rank).stat().st_size for rank in (0, 1)] == [MIB, MIB]
    assert [text.partition(" has")[0] for text in sorted(here.events("log_limit"))] == [
        "logs/rank_0.log of a", "logs/rank_1.log of b",
    ]  # fmt: skip
    assert not here.on_node("a").exists()
    assert any("has reached its limit" in text for text in explain(gather(here.store, JOB)).notes)


def test_at_the_limit_logs_do_not_stop_and_go_on_by_turns(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = JobPaths(JOB).root
    limit, told, followed = log_room.limit_bytes(folder), [], []
    room = log_room.LogRoom(
        folder, {"a": mirror}, lambda kind, text: told.append((kind, text)), lambda: followed.append(1)
    )
    monkeypatch.setattr(log_room, "_EVERY_S", 0.0)

    def look(free: int, **when: bool) -> bool:
        monkeypatch.setattr(log_room, "free_bytes", lambda folder: free)
        room.look(**when)
        return mirror.paused

    assert [look(free) for free in (limit, limit - 1, limit, 2 * limit - 1)] == [False, True, True, True]
    assert not look(2 * limit) and not look(limit)
    assert look(limit - 1)
    assert not look(limit, ending=True), "nothing more is written: what there is just room for is copied"
    assert [kind for kind, _ in told] == ["logs_paused", "logs_resumed"] * 2 and len(followed) == 4
    assert f"until {2 * limit / 2**30:.2g} GB are" in told[0][1]


def test_no_logs_where_there_is_no_room_and_all_of_them_when_there_is(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    low = True
    monkeypatch.setattr(log_room, "is_low", lambda folder, **_: low)
    monkeypatch.setattr(late, "is_low", lambda folder, **_: low)

    async def play() -> Any:
        # The rank begins to print when there is no room any more.
        wait = f"import os, time\nwhile not os.path.exists({str(here.folder / 'go')!r}):\n    time.sleep(0.05)\n"
        await here.submit(wait + PRINTS)
        work = asyncio.create_task(here.run())
        await until(lambda: here.events("logs_paused"), "logs are paused")
        (here.folder / "go").touch()
        return await asyncio.wait_for(work, 120)

    assert asyncio.run(play()).status == "completed"
    assert here.paths.rank_log(0).stat().st_size == 0
    assert (here.on_node("a") / "logs" / "rank_0.log").stat().st_size > 4 * MIB  # it stays there
    assert any("make room" in text for text in here.events("collect_failed"))
    low = False
    row, nodes = late.collect_job(here.store, JOB, lambda text: None)
    assert (row.status, sorted(nodes)) == ("completed", ["a", "b"])
    assert here.paths.rank_log(0).read_text().endswith("last\n")
    assert not here.on_node("a").exists()


def test_logs_that_waited_do_not_fill_the_store_at_the_end(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room for logs again, and not for all that wait on the node."""
    log, many = here.paths.rank_log(0), 64 * MIB

    def is_low(folder: Path, *, was: bool = False) -> bool:
        return was or not here.events("logs_paused") or log.stat().st_size > MIB

    monkeypatch.setattr(log_room, "is_low", is_low)
    monkeypatch.setattr(log_room, "_EVERY_S", 0.0)
    monkeypatch.setattr(late, "is_low", lambda folder, **_: log.stat().st_size > many // 2)

    async def play() -> Any:
        wait = f"import os, time\nwhile not os.path.exists({str(here.folder / 'go')!r}):\n    time.sleep(0.05)\n"
        await here.submit(wait + PRINTS.replace("64", str(many // 65536)))
        work = asyncio.create_task(here.run())
        await until(lambda: here.events("logs_paused"), "logs are paused")
        (here.folder / "go").touch()
        return await asyncio.wait_for(work, 120)

    assert asyncio.run(play()).status == "completed"
    assert here.events("logs_resumed") and len(here.events("logs_paused")) == 2
    assert MIB < log.stat().st_size < many // 2
    assert any("make room" in text for text in here.events("collect_failed"))
    with pytest.raises(StateError, match="make room"):
        late.collect_job(here.store, JOB, lambda text: None)
    assert log.stat().st_size < many - 65536
    monkeypatch.setattr(late, "is_low", lambda folder, **_: False)
    late.collect_job(here.store, JOB, lambda text: None)
    assert log.read_text().endswith("last\n") and not here.on_node("a").exists()


def test_what_a_job_wrote_that_ended_by_a_full_store_can_be_collected(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Mirror, name: str, offset: int, data: str) -> Any:
        raise StateError(f"write {name}", "No space left on device", "make room in the central store")

    async def play() -> Any:
        await here.submit("import time\nprint('begun', flush=True)\ntime.sleep(600)\n")
        work = asyncio.create_task(here.run())
        await until(lambda: here.on_node("a").exists(), "it starts")
        return await asyncio.wait_for(work, 60)

    with monkeypatch.context() as patched, pytest.raises(StateError, match="No space left"):
        patched.setattr(Mirror, "write", full)
        asyncio.run(play())
    assert here.store.job(JOB).status == "failed"
    row, nodes = late.collect_job(here.store, JOB, lambda text: None)
    assert (row.status, sorted(nodes)) == ("failed", ["a", "b"])
    assert not here.on_node("a").exists()


def test_a_job_that_completed_has_completed_although_the_store_is_full_at_its_end(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(paths: JobPaths) -> int:
        raise StateError(f"{paths.metrics}: derive it from the events", "No space left on device", "check the disk")

    async def play() -> Any:
        await here.submit("print('done')\n")
        (here.paths.root / "tensorboard").touch()  # no folder can be made
        return await asyncio.wait_for(here.run(), 60)

    with monkeypatch.context() as patched:
        patched.setattr(metrics, "rebuild", full)
        patched.setattr(experiments, "finish", lambda job, store: full(JobPaths(job)))
        assert asyncio.run(play()).status == here.store.job(JOB).status == "completed"
    assert len([text for text in here.events("collect_failed") if "File exists" in text]) == 2
    assert len([text for text in here.events("collect_failed") if "No space left" in text]) == 2
    (here.paths.root / "tensorboard").unlink()
    row, nodes = late.collect_job(here.store, JOB, lambda text: None)
    assert (row.status, sorted(nodes)) == ("completed", ["a", "b"])
    assert not here.on_node("a").exists()


def test_logs_go_on_when_there_is_room_again(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    low = True
    monkeypatch.setattr(log_room, "is_low", lambda folder, **_: low)

    async def play() -> Any:
        nonlocal low
        await here.submit("import time\nprint('begun', flush=True)\ntime.sleep(600)\n")
        work = asyncio.create_task(here.run())
        log = here.on_node("a") / "logs" / "rank_0.log"
        await until(lambda: log.exists() and log.read_text(), "rank 0 prints")
        await until(lambda: here.events("logs_paused"), "logs are paused")
        low = False
        await until(lambda: here.paths.rank_log(0).read_text() == "begun\n", "what it printed is here")
        await until(lambda: here.events("logs_resumed"), "that they go on is told")
        here.store.request_stop(JOB, True)
        return await asyncio.wait_for(work, 60)

    assert asyncio.run(play()).status == "stopped"
    assert not here.on_node("a").exists()


@pytest.mark.parametrize("limit_gb", [2.0, 1 / 1024**2])
def test_a_job_is_not_stalled_because_its_logs_are_not_kept(
    here: Here, monkeypatch: pytest.MonkeyPatch, limit_gb: float
) -> None:
    here.settings(log_limit_gb=limit_gb)
    monkeypatch.setattr(log_room, "is_low", lambda folder, **_: limit_gb > 1)  # else its logs are full

    async def play() -> Any:
        prints = "import time\nfor _ in range(160):\n    print('x' * 200, flush=True)\n    time.sleep(0.1)\n"
        await here.submit(prints, stall_timeout_s=12.0)  # less than it runs, more than ranks take to start
        return await asyncio.wait_for(here.run(), 120)

    outcome = asyncio.run(play())
    assert (outcome.status, outcome.reason) == ("completed", "")


def test_a_job_that_prints_nothing_is_stalled_where_logs_are_kept(here: Here) -> None:
    async def play() -> Any:
        await here.submit("import time\ntime.sleep(600)\n", stall_timeout_s=6.0)
        return await asyncio.wait_for(here.run(), 120)

    assert "no rank wrote anything" in asyncio.run(play()).reason
