# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The agent's parts, without nodes: what fails is started again, jobs are told apart, the inventory is read anew."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ugro_py.agent import jobs as agent_jobs
from ugro_py.agent.inventory import Inventory
from ugro_py.agent.jobs import Jobs
from ugro_py.agent.loop import Loop
from ugro_py.agent.notify import Notifier
from ugro_py.agent.parts import Parts
from ugro_py.agent.timings import Timings
from ugro_py.errors import InventoryError, NodeError, StateError
from ugro_py.gang import Outcome
from ugro_py.inventory import load_cluster
from ugro_py.state import Controller, Store
from ugro_py.state.away import AwayError

ME = Controller.me()
DEAD = Controller(ME.host, ME.boot_id, 1, 1)  # another process has this number now
AWAY = Controller("elsewhere", "boot", 7, 70)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("UGRO_DATA", str(tmp_path / "data"))
    with Store.open(f"sqlite:///{tmp_path}/data/ugro.db") as opened:
        yield opened


def job(store: Store, name: str, status: str, controller: Controller | None) -> None:
    store.create_job(name, "ob", {"name": name})
    if status != "pending":
        store.set_job(name, status)
    if controller:
        store.claim(name, controller)


async def eventually(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def test_a_part_that_fails_is_an_event_and_starts_again(store: Store) -> None:
    runs: list[int] = []

    async def part(stop: asyncio.Event) -> None:
        runs.append(len(runs))
        if len(runs) == 1:
            raise NodeError("gpu1: probe", "no answer")
        if len(runs) == 2:
            raise RuntimeError("a fault")
        if len(runs) == 3:
            return
        await stop.wait()

    async def play() -> None:
        parts = Parts(store, (0.01,))
        parts.start("health", lambda: part)
        await eventually(lambda: len(runs) == 4)
        await parts.stop()

    asyncio.run(play())
    texts = [event.text for event in store.events() if event.kind == "part_failed"]
    assert texts == ["health: gpu1: probe: no answer", "health: RuntimeError: a fault", "health ended by itself"]


def test_a_part_that_hangs_does_not_hold_up_the_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ugro_py.agent.parts._END_S", 0.05)

    async def deaf(stop: asyncio.Event) -> None:
        await asyncio.sleep(3600)

    async def play() -> None:
        parts = Parts(store)
        parts.start("api", lambda: deaf)
        await asyncio.sleep(0)
        async with asyncio.timeout(60):
            await parts.stop()

    asyncio.run(play())


def test_a_fault_in_the_task_of_a_job_is_an_event_and_the_job_is_adopted_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_jobs, "_BACKOFF_S", (0.05,))
    calls: list[str] = []

    async def adopt(store: Store, job: Any, controller: Controller, tell: Any) -> Outcome:
        calls.append(job.name)
        if job.name == "ill" and calls.count("ill") == 1:
            raise ZeroDivisionError("a fault of ours")
        if job.name == "well":
            await asyncio.sleep(3600)
        store.set_job(job.name, "completed")
        return Outcome("completed")

    monkeypatch.setattr(agent_jobs.takeover, "adopt", adopt)
    job(store, "ill", "running", DEAD)
    job(store, "well", "running", None)
    cluster = load_cluster(LOCAL_FILE)

    async def play() -> None:
        jobs = Jobs(store, ME, lambda: None)
        loop = Loop(store, jobs, ME, (), lambda: None)
        while store.job("ill").active:
            await loop.round(cluster)
            await asyncio.sleep(0.02)
        await eventually(lambda: jobs.names() == ["well"])
        await jobs.leave()
        assert jobs.names() == []

    asyncio.run(asyncio.wait_for(play(), 120))
    assert calls.count("ill") == 2 and calls.count("well") == 1
    (event,) = [event for event in store.events("ill") if event.kind == "task_failed"]
    assert "a fault of ours" in event.text and event.severity == "error"
    assert store.job("well").active


@pytest.mark.parametrize("stopped", [True, False], ids=["stopped", "tried to the end"])
def test_a_job_that_cannot_be_followed_says_so_obeys_a_stop_and_is_given_up_at_last(
    store: Store, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    monkeypatch.setattr(agent_jobs, "_BACKOFF_S", (0.01, 3600.0 if stopped else 0.01))
    tried: list[str] = []
    swept: list[bool] = []

    async def adopt(store: Store, job: Any, controller: Controller, tell: Any) -> Outcome:
        tried.append(job.name)
        raise StateError("read gang.json", "it is damaged")

    async def sweep() -> None:
        swept.append(store.job("ill").active)

    monkeypatch.setattr(agent_jobs.takeover, "adopt", adopt)
    job(store, "ill", "running", DEAD)
    cluster = load_cluster(LOCAL_FILE)

    async def play() -> None:
        jobs = Jobs(store, ME, lambda: None)
        jobs.sweep = sweep
        loop = Loop(store, jobs, ME, (), lambda: None)
        asked = False
        while store.job("ill").active:
            await loop.round(cluster)
            await asyncio.sleep(0.02)
            if stopped and len(tried) == 2 and not jobs.names() and not asked:
                assert "it is damaged; taken up again in 3600 s (2 of 10 times)" in store.job("ill").reason
                store.request_stop("ill")
                asked = True
        await eventually(lambda: not jobs.names())

    asyncio.run(asyncio.wait_for(play(), 120))
    row = store.job("ill")
    assert row.status == ("stopped" if stopped else "failed")
    assert "it is damaged" in row.reason
    assert len(tried) == (2 if stopped else agent_jobs.TRIES)
    assert swept == [False]  # what still runs is ended once the job is over
    assert row.controller is None


def test_a_database_that_is_away_is_no_fault_of_the_job(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_jobs, "_AWAY_PAUSE_S", 0.01)
    tried: list[str] = []

    async def adopt(store: Store, job: Any, controller: Controller, tell: Any) -> Outcome:
        tried.append(job.name)
        if len(tried) <= agent_jobs.TRIES + 2:
            raise AwayError("state database", "it was away for 60 s")
        store.set_job(job.name, "completed")
        return Outcome("completed")

    monkeypatch.setattr(agent_jobs.takeover, "adopt", adopt)
    job(store, "well", "running", DEAD)

    async def play() -> None:
        jobs = Jobs(store, ME, lambda: None)
        loop = Loop(store, jobs, ME, (), lambda: None)
        while store.job("well").active:
            await loop.round(load_cluster(LOCAL_FILE))
            await asyncio.sleep(0.02)

    asyncio.run(asyncio.wait_for(play(), 120))
    assert store.job("well").status == "completed"


def test_only_jobs_that_nobody_controls_are_taken(store: Store) -> None:
    taken: list[str] = []

    class Noted(Jobs):
        def adopt(self, job: Any) -> None:
            taken.append(job.name)

    job(store, "mine", "running", ME)
    job(store, "dead", "running", DEAD)
    job(store, "handed-over", "starting", None)
    job(store, "elsewhere", "running", AWAY)
    job(store, "former-agent", "collecting", Controller("elsewhere", "boot", 8, 80))
    job(store, "foreground", "running", Controller.of(os.getppid()))
    parent = Controller.of(os.getppid())
    job(store, "rebooted", "running", Controller(parent.host, "before", parent.pid, parent.start_ticks))
    job(store, "ended", "completed", DEAD)
    job(store, "just-submitted", "pending", None)  # its files are on the way
    former = {Controller("elsewhere", "boot", 8, 80)}

    async def play() -> None:
        await Loop(store, Noted(store, ME, lambda: None), ME, former, lambda: None).round(load_cluster(LOCAL_FILE))

    asyncio.run(play())
    assert sorted(taken) == ["dead", "former-agent", "handed-over", "mine", "rebooted"]


def test_who_may_not_act_takes_nothing(store: Store) -> None:
    job(store, "dead", "running", DEAD)

    def check() -> None:
        raise NodeError("act", "the lease is lost")

    async def play() -> None:
        jobs = Jobs(store, ME, lambda: None)
        with pytest.raises(NodeError):
            await Loop(store, jobs, ME, (), check).round(load_cluster(LOCAL_FILE))
        assert jobs.names() == []

    asyncio.run(play())


def test_former_holders_of_the_lease_are_known(store: Store) -> None:
    assert store.former_holders() == set()
    for number in range(3):
        holder = Controller("elsewhere", "boot", number, number)
        lease = store.acquire_lease(holder, 8.0)
        assert lease
        store.give_back_lease(lease)
    assert store.former_holders() == {Controller("elsewhere", "boot", number, number) for number in range(2)}


LOCAL_FILE = Path(__file__).parents[2] / "inventory" / "local" / "hosts.yml"


def test_an_inventory_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "hosts.yml"
    file.write_text(LOCAL_FILE.read_text())
    inventory = Inventory(str(file))
    before = inventory.cluster
    assert not inventory.changed()
    file.write_text(file.read_text() + "# a remark\n")
    assert not inventory.changed()
    file.write_text("ugro_nodes: [nonsense\n")
    assert not inventory.changed()
    assert inventory.cluster == before and str(file) in inventory.problem
    file.write_text("ugro_nodes:\n  hosts:\n    one: {ansible_connection: local, ugro_role: master}\n")
    assert inventory.changed()
    assert [node.name for node in inventory.cluster.nodes] == ["one"] and inventory.problem == ""
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "all.yml").write_text("ugro_cluster_name: other\n")
    assert inventory.changed()
    assert inventory.cluster.name == "other"
    file.unlink()
    assert not inventory.changed()
    with pytest.raises(InventoryError):
        Inventory(str(file))


def test_systemd_hears_that_it_is_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "n"))
        manager.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "n"))
        monkeypatch.setenv("WATCHDOG_USEC", "3000000")
        notifier = Notifier()
        notifier.tell("READY=1", "STATUS=acts")
        assert manager.recv(100) == b"READY=1\nSTATUS=acts"
    assert notifier.watchdog_s == 3.0
    assert "NOTIFY_SOCKET" not in os.environ  # the programs it starts do not speak for it
    notifier.tell("WATCHDOG=1")  # nobody listens: no error
    Notifier().tell("READY=1")


def test_timings_are_of_every_round() -> None:
    timings = Timings()
    for seconds in (0.5, 0.1):
        timings.add("schedule", seconds)
    with pytest.raises(ValueError, match="x"), timings.round("sweep"):
        raise ValueError("x")
    found = timings.all()
    assert (found["schedule"].count, found["schedule"].last_s, found["schedule"].worst_s) == (2, 0.1, 0.5)
    assert found["sweep"].count == 1
