# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A job gives its GPUs back when its last process has ended, not when all it wrote has come; whoever is killed then.

Sessions, supervisors and ranks are real, and so are the controllers that are killed: forks of this process.
"""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.support import processes_here
from tests.unit.here import JOB, Here, here, until  # noqa: F401 - a fixture
from ugro_py import finish, late
from ugro_py.recovery.ahead import Ahead
from ugro_py.recovery.copies import Copies
from ugro_py.scheduler import Request, place
from ugro_py.state import Controller, Store
from ugro_py.takeover import adopt
from ugro_py.transport import Session

OTHER = "urgent"
# Ends with a checkpoint when it is told to, or by itself with the code that it is given once a file is there.
SAVES = """
import json, os, signal, sys, time
folder, go, code = os.environ["UGRO_CHECKPOINT_DIR"], sys.argv[1], int(sys.argv[2])
def save(*_):
    if os.environ["RANK"] == "0":
        with open(folder + "/step_1.pt", "w") as file:
            file.write("weights")
        with open(folder + "/new", "w") as file:
            json.dump({"complete": True, "step": 1, "size": 7}, file)
        os.rename(folder + "/new", folder + "/step_1.pt.json")
    print("saved", flush=True)
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
print("step 1 loss=1.0", flush=True)
while not os.path.exists(go):
    time.sleep(0.05)
try:
    save()
except SystemExit:
    sys.exit(code)
"""
# The first attempt fails once the file is there; any other one completes.
FAILS_FIRST = """
import os, sys, time
print("step 1 loss=1.0 of attempt", os.environ["UGRO_ATTEMPT"], flush=True)
open(os.environ["UGRO_TENSORBOARD_DIR"] + "/attempt_" + os.environ["UGRO_ATTEMPT"], "w").close()
while os.environ["UGRO_ATTEMPT"] == "1":
    if os.path.exists(sys.argv[1]):
        sys.exit(3)
    time.sleep(0.05)
"""


def _end(here: Here, how: str) -> None:
    """Have the job end: it is preempted, stopped, or ends by itself."""
    if how == "preempted":
        assert here.store.request_preempt(JOB, OTHER)
    elif how == "stopped":
        here.store.request_stop(JOB)
    else:
        (here.folder / "go").touch()


def _in_a_fork(here: Here) -> multiprocessing.process.BaseProcess:
    """Run the job in another process, which controls it."""

    def work() -> None:
        with Store.open() as here.store:
            here.me = Controller.me(replaces=here.me)
            asyncio.run(here.run())

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


def _adopt(here: Here) -> Any:
    job = here.store.job(JOB)
    assert job.controller is not None and job.controller.is_alive() is False
    me = Controller.me(replaces=job.controller)
    assert here.store.claim(JOB, me)
    return asyncio.run(asyncio.wait_for(adopt(here.store, job, me, lambda kind, data: None), 180))


async def _runs(here: Here) -> None:
    logs = [here.paths.rank_log(rank) for rank in (0, 1)]
    await until(lambda: all(log.exists() and "step 1" in log.read_text() for log in logs), "both ranks run")
    await until(lambda: here.store.job(JOB).status == "running", "the job runs")


def _held_back(monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, asyncio.Event]:
    """Make copies of checkpoints wait; returns what says that one has begun, and what lets them go on."""
    copying, copied, real = asyncio.Event(), asyncio.Event(), Copies._fetch

    async def slow(self: Copies, *args: Any) -> None:
        copying.set()
        await copied.wait()
        await real(self, *args)

    monkeypatch.setattr(Copies, "_fetch", slow)
    return copying, copied


@pytest.mark.parametrize(
    ("how", "code", "retry", "free"),
    [
        ("preempted", 0, 1, True),
        ("stopped", 0, 0, True),
        ("failed", 7, 0, True),
        ("failed", 7, 1, False),  # the next attempt is to have them
    ],
)
def test_gpus_are_free_while_the_checkpoint_is_copied(
    here: Here, monkeypatch: pytest.MonkeyPatch, how: str, code: int, retry: int, free: bool
) -> None:
    copying, copied = _held_back(monkeypatch)

    async def play() -> Any:
        await here.submit(SAVES, str(here.folder / "go"), str(code), retry=retry)
        work = asyncio.create_task(here.run())
        await _runs(here)
        _end(here, how)
        await copying.wait()
        if free:
            await until(lambda: here.store.job(JOB).status == "collecting", "it is collected")
        await until(lambda: here.store.attempt(JOB, 1).ended_at, "the attempt has ended")  # type: ignore[union-attr]
        first = here.store.attempt(JOB, 1)
        assert first is not None and processes_here(first.token) == []
        assert set(here.store.busy().values()) == (set() if free else {JOB})
        assert here.store.busy_nodes() == {"a", "b"}, "one that is drained is not drained yet"
        assert not list(here.paths.checkpoints.glob("step_*"))
        copied.set()
        return await asyncio.wait_for(work, 180)

    outcome = asyncio.run(play())
    assert outcome.status == ("pending" if how == "preempted" else how)
    assert (here.paths.checkpoints / "step_1.pt").read_text() == "weights"
    assert here.store.busy() == {} and here.store.busy_nodes() == set()
    assert here.store.job(JOB).preempted == (how == "preempted")


@pytest.mark.parametrize("how", ["stopped", "preempted"])
def test_a_job_that_is_called_off_while_its_retry_is_due_gives_its_gpus_back_at_once(
    here: Here, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    copying, copied = _held_back(monkeypatch)

    async def play() -> Any:
        await here.submit(SAVES, str(here.folder / "go"), "7", retry=1)
        work = asyncio.create_task(here.run())
        await _runs(here)
        _end(here, "failed")
        await copying.wait()
        await until(lambda: here.store.attempt(JOB, 1).ended_at, "the attempt has ended")  # type: ignore[union-attr]
        assert set(here.store.busy().values()) == {JOB}, "the next attempt is to have them"
        _end(here, how)
        await until(lambda: here.store.busy() == {}, "its GPUs are free")
        assert not copied.is_set() and not work.done()
        copied.set()
        return await asyncio.wait_for(work, 180)

    outcome = asyncio.run(play())
    assert outcome.status == ("stopped" if how == "stopped" else "pending"), outcome
    assert here.store.job(JOB).preempted == (how == "preempted")
    assert (here.paths.checkpoints / "step_1.pt").read_text() == "weights"
    assert (here.store.attempt(JOB).number, here.store.busy()) == (1, {})  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("point", "how"), [("copies", "preempted"), ("collects", "preempted"), ("collects", "stopped")]
)
def test_who_takes_over_what_is_collected_leaves_the_gpus_to_who_has_them_now(
    here: Here, monkeypatch: pytest.MonkeyPatch, point: str, how: str
) -> None:
    parent, there = os.getpid(), here.folder / "there"
    where: Any = {"copies": (Copies, "_fetch"), "collects": (finish, "collect")}[point]
    real = getattr(*where)

    async def hangs(*args: Any) -> Any:
        if os.getpid() == parent:
            return await real(*args)
        there.touch()
        return await asyncio.sleep(600)

    monkeypatch.setattr(*where, hangs)
    asyncio.run(here.submit(SAVES, str(here.folder / "go"), "0"))
    controller = _in_a_fork(here)
    asyncio.run(_runs(here))
    _end(here, how)
    here_yet = lambda: there.exists() and here.store.job(JOB).status == "collecting"  # noqa: E731
    asyncio.run(until(here_yet, "it brings in what there is"))
    controller.kill()
    controller.join()

    store = here.store
    assert store.busy() == {}
    store.create_job(OTHER, "eva", {})
    placements = place(Request(), ("a", "b"), store.gpus(), {})
    store.start_attempt(OTHER, placements, master_addr="127.0.0.1", master_port=1, token="other")
    outcome = _adopt(here)
    assert outcome.status == ("pending" if how == "preempted" else how), outcome
    assert (store.job(JOB).status, store.job(JOB).preempted) == (outcome.status, int(how == "preempted"))
    assert (here.paths.checkpoints / "step_1.pt").read_text() == "weights"
    assert [here.paths.rank_log(rank).read_text().splitlines()[-1] for rank in (0, 1)] == ["saved", "saved"]
    assert set(store.busy().values()) == {OTHER} and len(store.busy()) == 2
    assert not here.on_node("a").exists() and not here.on_node("b").exists()


def _dies_at(monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    """Have a forked controller kill itself on the way to the second attempt."""
    parent = os.getpid()

    def dying(call: Callable[..., Any], is_it: Callable[..., bool]) -> Callable[..., Any]:
        def wrapped(*args: Any, **values: Any) -> Any:
            if os.getpid() != parent and is_it(*args, **values):
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **values)

        return wrapped

    def second(store: Store, job: str, status: str, *_: Any) -> bool:
        attempt = store.attempt(job)
        return status == "starting" and attempt is not None and attempt.number == 2

    if point == "go":
        monkeypatch.setattr(Session, "call", dying(Session.call, lambda self, method, **_: method == "go"))
    else:
        monkeypatch.setattr(Store, "set_job", dying(Store.set_job, second))


@pytest.mark.parametrize(("point", "in_advance"), [("recorded", False), ("recorded", True), ("go", True)])
def test_a_controller_killed_while_it_starts_a_retry_costs_no_retry(
    here: Here, monkeypatch: pytest.MonkeyPatch, point: str, in_advance: bool
) -> None:
    prepare, go = Ahead._prepare, here.folder / "go"

    async def prepared(self: Ahead) -> None:
        while in_advance and self._ready is None:
            await prepare(self)
        go.touch()

    monkeypatch.setattr(Ahead, "_prepare", prepared)
    _dies_at(monkeypatch, point)
    asyncio.run(here.submit(FAILS_FIRST, str(go), retry=1))
    controller = _in_a_fork(here)
    controller.join(180)
    assert controller.exitcode == -signal.SIGKILL
    assert (here.store.attempt(JOB).number, here.store.attempt(JOB, 1).status) == (2, "failed")  # type: ignore[union-attr]

    outcome = _adopt(here)
    assert outcome.status == "completed", (outcome, here.events("attempt_failed"))
    assert len(here.events("attempt_failed")) == 1
    assert here.paths.rank_log(0).read_text() == "step 1 loss=1.0 of attempt 3\n"
    kept = {path.name for path in Path(here.paths.tensorboard).rglob("attempt_*")}
    assert kept == {"attempt_1", "attempt_3"}, "what the first attempt left on its nodes was brought in"
    assert late.uncollected(here.store, JOB) == []
    assert here.store.busy() == {}
    assert [path for number in (1, 2, 3) for node in "ab" if (path := here.on_node(node, number)).exists()] == []


def test_what_an_attempt_left_is_brought_in_though_its_retry_is_stopped_before_it_starts(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = here.folder / "go"
    _dies_at(monkeypatch, "recorded")
    asyncio.run(here.submit(FAILS_FIRST, str(go), retry=1))
    controller = _in_a_fork(here)
    asyncio.run(_runs(here))
    go.touch()
    controller.join(180)
    assert here.store.attempt(JOB).number == 2  # type: ignore[union-attr]
    here.store.request_stop(JOB)
    assert _adopt(here).status == here.store.job(JOB).status == "stopped"
    assert {path.name for path in Path(here.paths.tensorboard).rglob("attempt_*")} == {"attempt_1"}
    assert late.uncollected(here.store, JOB) == [] and here.store.busy() == {}
    assert [path for number in (1, 2) for node in "ab" if (path := here.on_node(node, number)).exists()] == []
