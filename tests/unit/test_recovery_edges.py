# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Recovery where something else happens too: a node away at a take-over, a cancel, another controller."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import asyncio
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.job_store import JOB, NODES, JobStore, job_store  # noqa: F401 - a fixture
from ugro_py.checkpoints import newest
from ugro_py.cluster import Cluster, Node
from ugro_py.errors import NodeError
from ugro_py.gang import Outcome
from ugro_py.launch import Launcher
from ugro_py.paths import JobPaths
from ugro_py.plan import Gang
from ugro_py.queue import wait
from ugro_py.queue.model import Start
from ugro_py.queue.start import run_queued
from ugro_py.ready import Ready
from ugro_py.recovery import relaunch
from ugro_py.recovery.copies import Copies, verify
from ugro_py.request.job import JobRequest
from ugro_py.scheduler import Request, place
from ugro_py.state import Controller

CLUSTER = Cluster("c", (), Path("hosts.yml"))


def test_a_checkpoint_of_a_node_that_was_away_at_the_take_over_breaks_nothing(job_store: JobStore) -> None:
    number = job_store.attempt()
    placements = tuple(place(Request(), NODES, job_store.store.gpus(), {}))
    gang = Gang(JOB, number, placements, "10.0.0.0", 29500, "t0k3n")

    async def play() -> None:
        copies = Copies(job_store.store, gang, {}, {})
        copies.take(NODES[0], {"kind": "checkpoint", "path": "checkpoints/step_1.pt"})
        await copies.finish()
        await copies.cancel()

    asyncio.run(play())
    assert [event.node for event in job_store.store.events(JOB) if event.kind == "copy_failed"] == [NODES[0]]


def test_a_job_that_ended_before_it_made_room_makes_none_when_it_is_resumed(job_store: JobStore) -> None:
    job_store.attempt()
    assert job_store.store.request_preempt(JOB, "urgent")
    job_store.end("failed", "boom", 1)
    assert job_store.store.reopen(JOB)
    assert job_store.store.preempt_for(JOB) is None


@pytest.mark.parametrize("what", ["cancelled", "held", "stopped"])
def test_a_job_is_not_started_that_was_taken_back_since_the_decision(job_store: JobStore, what: str) -> None:
    store, me = job_store.store, Controller.me()
    store.unclaim(JOB, me)
    decided = store.job(JOB)
    {"cancelled": store.cancel, "held": store.hold, "stopped": lambda job, by: store.request_stop(job)}[what](JOB, "ob")
    outcome = asyncio.run(run_queued(store, CLUSTER, decided, Start(JOB, ()), me, lambda kind, data: None))
    assert outcome.status == ("stopped" if what == "cancelled" else "pending")
    assert store.attempt(JOB) is None
    assert store.job(JOB).status == outcome.status


def test_who_lost_a_job_while_it_started_frees_nothing_of_its_successor(
    job_store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, me = job_store.store, Controller.me()
    other = Controller("standby", "boot", 1, 1, replaces=me)
    placements = place(Request(), NODES, store.gpus(), {})
    ready = Ready(placements, {}, {}, {}, [], "10.0.0.0", 29500, [])

    async def nothing(self: Launcher, *args: object, **kwargs: object) -> Any:
        return ready

    async def taken_over(self: Launcher, _ready: Ready, gang: Gang) -> None:
        store.set_attempt(JOB, gang.attempt, status="failed")
        assert store.claim(JOB, other)
        store.start_attempt(JOB, placements, master_addr="10.0.0.0", master_port=29500, token="n3w")
        store.set_job(JOB, "running")
        raise asyncio.CancelledError

    monkeypatch.setattr(Launcher, "read_code", nothing)
    monkeypatch.setattr(Launcher, "ready", nothing)
    monkeypatch.setattr(Launcher, "start", taken_over)
    job_store.paths.root.joinpath("attempts").mkdir(exist_ok=True)
    decided = store.job(JOB)
    request = {**decided.request, "name": JOB, "script": "train.py"}
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(
            run_queued(store, CLUSTER, replace(decided, request=request), Start(JOB, ()), me, lambda kind, data: None)
        )
    assert store.job(JOB).status == "running"
    assert [holder.gpus for holder in store.holders()] == [tuple(one.gpu.uuid for one in placements)]


def test_what_a_job_left_in_place_of_a_checkpoint_is_not_read_for_ever(tmp_path: Path) -> None:
    step, manifest = tmp_path / "step_1.pt", tmp_path / "step_1.pt.json"
    step.symlink_to("/dev/zero")
    manifest.write_text('{"complete": true, "step": 1, "sha256": ""}')
    with pytest.raises(NodeError, match="no plain file"):
        verify(step)
    step.unlink()
    step.write_bytes(b"x")
    manifest.unlink()
    os.mkfifo(manifest)
    with pytest.raises(NodeError, match="no plain file"):
        verify(step)


@pytest.mark.parametrize("target", ["/dev/zero", None])
def test_a_manifest_that_never_ends_vouches_for_nothing(job_store: JobStore, target: str | None) -> None:
    folder = JobPaths(JOB).checkpoints
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "step_1.pt").write_bytes(b"x")
    if target:
        (folder / "step_1.pt.json").symlink_to(target)
    else:
        os.mkfifo(folder / "step_1.pt.json")
    assert newest(JobPaths(JOB)) == folder / "step_1.pt"


def test_a_job_of_another_user_that_an_agent_left_runs_as_their_account(
    job_store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = replace(job_store.store.job(JOB), user="guest")
    cluster = Cluster("c", (Node("a", "10.0.0.1", connection="local"),), Path("hosts.yml"))
    cluster = replace(cluster, settings=replace(cluster.settings, accounts={"guest": "training-guest"}))
    seen: list[Cluster] = []

    async def turn(store: object, theirs: Cluster, *_: object, **__: object) -> Outcome:
        seen.append(theirs)
        return Outcome("pending", "")

    monkeypatch.setattr(wait, "wait_for_turn", turn)
    monkeypatch.setattr(wait.spool, "exists", lambda job: True)
    asyncio.run(wait.wait_and_run(job_store.store, cluster, row, Controller.me(), lambda kind, data: None))
    assert [(node.user, node.connection) for node in seen[0].nodes] == [("training-guest", "ssh")]


def test_a_retry_that_is_called_off_while_it_is_recorded_is_recorded_before_its_gpus_are_freed(
    job_store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would take them after that, and hold them while the job is collected."""
    store, number = job_store.store, job_store.attempt()
    store.set_attempt(JOB, number, status="failed")
    placements = tuple(place(Request(), NODES, store.gpus(), {}))
    gang = Gang(JOB, number, placements, "10.0.0.0", 29500, "t0k3n")
    asked, go_on, done = threading.Event(), threading.Event(), threading.Event()
    real = Launcher.next_attempt

    def slow(self: Launcher, ready: Ready, resume_from: str = "") -> Gang:
        asked.set()
        assert go_on.wait(60)
        recorded = real(self, ready, resume_from)
        done.set()
        return recorded

    async def found(*_: object) -> Ready:
        return Ready(list(placements), {}, {}, {}, [], "10.0.0.0", 29500, [])

    async def nothing(self: Launcher) -> None:
        return None

    monkeypatch.setattr(Launcher, "next_attempt", slow)
    monkeypatch.setattr(Launcher, "read_code", nothing)
    monkeypatch.setattr(relaunch, "_find_place", found)
    launcher = Launcher(JobRequest(JOB, model="tiny-llama"), CLUSTER, store, "ob", None, Controller.me())

    async def play() -> None:
        outcome = Outcome("failed", "boom", 1)
        work = asyncio.create_task(relaunch.relaunch(launcher, gang, {}, {}, outcome, None))
        assert await asyncio.to_thread(asked.wait, 60)
        work.cancel()
        asyncio.get_running_loop().call_later(0.3, go_on.set)
        await asyncio.wait({work})
        assert work.cancelled()
        store.release(JOB)
        assert await asyncio.to_thread(done.wait, 60)

    asyncio.run(play())
    newest = store.attempt(JOB)
    assert newest is not None and newest.number == number + 1
    assert store.busy() == {}
