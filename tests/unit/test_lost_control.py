# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A controller that lost its job leaves at once and touches nothing; what it was collecting is not forgotten."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.job_store import JOB, NODES, JobStore, job_store  # noqa: F401 - a fixture
from ugro_py import late, run
from ugro_py.cluster import Cluster
from ugro_py.gang import Outcome
from ugro_py.launch import Launcher
from ugro_py.plan import Gang
from ugro_py.recovery.relaunch import Running
from ugro_py.request.job import JobRequest
from ugro_py.scheduler import Request, place
from ugro_py.state import Controller, Store
from ugro_py.state.fence import LostControlError

CLUSTER = Cluster("c", (), Path("hosts.yml"))
ME = Controller.me()
OTHER = Controller("standby", "boot", 1, 1, replaces=ME)


class Node:
    """A session to a node that notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.closed = False

    async def call(self, method: str, **params: object) -> Any:
        self.asked.append(method)
        return {}

    async def close(self) -> None:
        self.closed = True


class Case:
    """A job that runs, its controller in the middle of it."""

    def __init__(self, jobs: JobStore) -> None:
        self.store = jobs.store
        placements = tuple(place(Request(), NODES, jobs.store.gpus(), {}))
        self.gang = Gang(JOB, jobs.attempt(), placements, "10.0.0.0", 29500, "t0k3n")
        self.nodes = {name: Node() for name in NODES}
        self.launcher = Launcher(JobRequest(name=JOB, script="train.py"), CLUSTER, jobs.store, "ob")
        self.stay = run._Stay(self.launcher)

    async def play(self, lost: Any = ()) -> Outcome:
        return await self.stay.run(Running(self.gang, {}, self.nodes), lost, None)  # type: ignore[arg-type]


@pytest.fixture
def case(job_store: JobStore) -> Case:
    return Case(job_store)


@pytest.mark.parametrize("how", ["lost", "cancelled", "lease"])
def test_it_leaves_at_once_while_an_earlier_attempt_is_collected(
    case: Case, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    valid, follows = True, asyncio.Event()
    case.stay._store = case.launcher.store = case.store.acting_as(ME, lambda: valid)

    async def follow(self: Any, now: Running, lost: object) -> Outcome:
        nonlocal valid
        follows.set()
        self._collecting.append(asyncio.create_task(asyncio.sleep(3600)))
        if how == "lost":
            assert case.store.claim(JOB, OTHER)
            self._store.set_rank(JOB, 1, 0, status="failed")
        valid = how != "lease"
        await asyncio.sleep(3600)
        raise AssertionError

    monkeypatch.setattr(run._Stay, "_follow", follow)

    async def play() -> float:
        task = asyncio.create_task(case.play())
        await follows.wait()
        await asyncio.wait({task}, timeout=0.3)
        begun = time.monotonic()
        task.cancel()
        with pytest.raises((LostControlError, asyncio.CancelledError)):
            await task
        return time.monotonic() - begun

    assert asyncio.run(play()) < 60
    assert [node.asked for node in case.nodes.values()] == [[]] * 3
    assert (case.store.job(JOB).status, case.store.attempt(JOB).ended_at) == ("running", None)  # type: ignore[union-attr]


def test_whatever_breaks_after_that_stops_no_rank_of_its_successor(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    async def follow(self: Any, now: Running, lost: object) -> Outcome:
        assert case.store.claim(JOB, OTHER)
        raise run.StateError("write metrics.jsonl", "No space left on device")

    monkeypatch.setattr(run._Stay, "_follow", follow)
    with pytest.raises(LostControlError):
        asyncio.run(case.play())
    assert [node.asked for node in case.nodes.values()] == [[]] * 3
    assert case.store.job(JOB).status == "running"
    with pytest.raises(LostControlError):
        asyncio.run(late.end_partly_started(case.launcher, case.gang, {}, case.nodes))  # type: ignore[arg-type]
    assert [node.asked for node in case.nodes.values()] == [[]] * 3


def test_what_breaks_while_the_job_is_its_own_stops_the_ranks(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    async def follow(self: Any, now: Running, lost: object) -> Outcome:
        raise run.StateError("write metrics.jsonl", "No space left on device")

    monkeypatch.setattr(run._Stay, "_follow", follow)
    with pytest.raises(run.StateError):
        asyncio.run(case.play())
    assert [node.asked for node in case.nodes.values()] == [["stop"]] * 3
    assert case.store.job(JOB).status == "failed"


def test_an_attempt_in_the_middle_of_its_collection_is_remembered(case: Case) -> None:
    store, second = case.store, replace(case.gang, attempt=2)
    assert late.uncollected(store, JOB) == []
    late.note_collecting(store, case.gang)
    late.note_collecting(store, second)
    assert late.uncollected(store, JOB) == [1, 2]
    late.note_collected(store, second)
    assert late.uncollected(store, JOB) == [1]
    store.add_event("collected", "collected what was left on no node", job=JOB)
    assert late.uncollected(store, JOB) == []


def test_who_takes_the_job_over_brings_in_what_its_predecessor_had_not(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    late.note_collecting(case.store, case.gang)
    collected: list[int] = []

    async def bring_in(store: Store, job: str, numbers: list[int]) -> None:
        collected.extend(numbers)

    async def finish(*arguments: object) -> None:
        assert collected == [1], "the newest attempt is collected last"

    async def follow(self: Any, now: Running, lost: object) -> Outcome:
        return Outcome("completed")

    monkeypatch.setattr(late, "_bring_in", bring_in)
    monkeypatch.setattr(run, "finish", finish)
    monkeypatch.setattr(run._Stay, "_follow", follow)
    case.store.set_attempt(JOB, 1, status="failed")
    case.store.start_attempt(JOB, case.gang.placements, master_addr="", master_port=1, token="n")
    case.gang = replace(case.gang, attempt=2)
    assert asyncio.run(case.play()).status == "completed"
    assert collected == [1]


@pytest.mark.parametrize("how", ["failed", "stopped", "waits", "requeued", "resumed"])
def test_an_attempt_has_ended_when_its_job_has_or_waits(job_store: JobStore, how: str) -> None:
    store = job_store.store
    job_store.attempt()
    if how == "waits":
        store.set_waiting(JOB, "a node broke")
    elif how == "requeued":
        store.requeue(JOB, "made room")
    else:
        store.set_job(JOB, "stopped" if how == "stopped" else "failed", "a node broke", 1)
    attempt = store.attempt(JOB)
    assert attempt and attempt.ended_at is not None
    assert attempt.status == ("stopped" if how == "stopped" else "failed")
    assert {rank.status for rank in store.ranks(JOB)} == {"stopped"}
    if how == "resumed":
        assert store.reopen(JOB)
        assert store.attempt(JOB) == attempt
