# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A stop or a hold ends a job's start at once, wherever it is; sessions, supervisors and ranks are real."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.integration.support import processes_here
from tests.unit.here import JOB, Here, here, until  # noqa: F401 - a fixture
from ugro_py import call_off, launch, playbook, ready
from ugro_py.errors import JobStoppedError, NodeError, NotFoundError
from ugro_py.launch import Launcher, start_job
from ugro_py.queue import start, wait
from ugro_py.queue.model import Start
from ugro_py.ready import NotFreeError
from ugro_py.request.job import JobRequest
from ugro_py.scheduler import Request, place
from ugro_py.transport import Session

FOR_EVER_S = 600.0
AT_ONCE_S = 120.0  # measured: 0.3 to 2 s; what hangs does so for longer
WAITS = "import time\nprint('as far as this', flush=True)\ntime.sleep(600)\n"


def _hangs(monkeypatch: pytest.MonkeyPatch, phase: str, reached: asyncio.Event) -> None:
    """Have the start of a job hang in one of its phases."""

    async def hang(*_: Any, **__: Any) -> None:
        reached.set()
        await asyncio.sleep(FOR_EVER_S)

    if phase == "verify":
        monkeypatch.setattr(ready, "try_port", hang)
    elif phase == "staging":
        monkeypatch.setattr(launch, "stage", hang)
    elif phase == "record":
        loop, record = asyncio.get_running_loop(), start._next_attempt

        def slowly(*args: Any) -> Any:
            loop.call_soon_threadsafe(reached.set)
            time.sleep(1.0)  # in a thread, which no cancelling ends
            return record(*args)

        monkeypatch.setattr(start, "_next_attempt", slowly)
    else:
        real = Session.call

        async def call(self: Session, method: str, **params: Any) -> Any:
            answer = await real(self, method, **params)
            if method == "start" and self.node.name == "b":
                await hang()
            return answer

        monkeypatch.setattr(Session, "call", call)


@pytest.mark.parametrize("what", ["stop", "hold"])
@pytest.mark.parametrize("phase", ["verify", "record", "staging", "start"])
def test_a_start_ends_at_once(here: Here, monkeypatch: pytest.MonkeyPatch, phase: str, what: str) -> None:
    store = here.store

    async def play() -> Any:
        reached = asyncio.Event()
        _hangs(monkeypatch, phase, reached)
        await here.submit(WAITS)
        work = asyncio.create_task(here.run())
        await reached.wait()
        if phase == "start":  # the rank of the node that answers has come so far that it writes
            log = here.on_node("a") / "logs" / "rank_0.log"
            await until(lambda: log.exists() and log.read_text(), "rank 0 writes")
        asked = time.monotonic()
        if what == "stop":
            store.request_stop(JOB)
        else:
            store.hold(JOB, "ob")
        outcome = await work
        assert time.monotonic() - asked < AT_ONCE_S
        return outcome

    outcome = asyncio.run(play())
    row = store.job(JOB)
    assert row.status == outcome.status == ("stopped" if what == "stop" else "pending")
    assert row.reason == (call_off.STOPPED if what == "stop" else "held by ob")
    assert row.held == (what == "hold")
    assert (row.controller is None) == (what == "stop")
    assert store.busy() == {}
    assert not here.on_node("a").exists()
    assert not here.on_node("b").exists()
    attempt = store.attempt(JOB)
    assert (attempt is None) == (phase == "verify")
    if attempt is not None:
        assert attempt.ended_at is not None
        assert processes_here(attempt.token) == []
    if phase == "start":
        assert here.paths.rank_log(0).read_text() == "as far as this\n"


@pytest.mark.parametrize("what", ["stop", "hold", "hold, but it shall not wait"])
def test_so_does_a_start_in_the_foreground(here: Here, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    store = here.store

    async def play() -> None:
        reached = asyncio.Event()
        _hangs(monkeypatch, "start", reached)
        code = here.folder / "code"
        code.mkdir()
        (code / "main.py").write_text(WAITS)
        request = JobRequest(JOB, script="main.py", workdir=str(code))
        launcher = Launcher(request, here.cluster, store, "ob", may_wait=what == "hold")
        work = asyncio.create_task(start_job(launcher))
        await reached.wait()
        if what == "stop":
            store.request_stop(JOB)
        else:
            store.hold(JOB, "ob")
        await work

    with pytest.raises(NotFreeError if what == "hold" else JobStoppedError):
        asyncio.run(play())
    row = store.job(JOB)
    assert (row.status, row.held) == ("pending" if what == "hold" else "stopped", what != "stop")
    assert store.busy() == {}
    assert not here.on_node("a").exists()


def test_a_stop_while_it_waits_to_be_tried_again_on_other_nodes(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ugro_py.queue.start.BACK_OFF_S", (FOR_EVER_S,) * 3)

    async def broken(*_: Any, **__: Any) -> None:
        raise NodeError("b: start", "no")

    monkeypatch.setattr(ready, "try_port", broken)

    async def play() -> Any:
        await here.submit(WAITS)
        work = asyncio.create_task(
            wait.wait_and_run(here.store, here.cluster, here.store.job(JOB), here.me, lambda *_: None)
        )
        await until(lambda: here.events("start_failed"), "it could not be started")
        here.store.request_stop(JOB)
        return await asyncio.wait_for(work, AT_ONCE_S)

    assert asyncio.run(play()).status == here.store.job(JOB).status == "stopped"


def test_a_stop_during_the_back_off_of_a_retry_is_a_stop(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    here.settings(retry_backoff_s=FOR_EVER_S)
    # Each attempt fails in another way: the second retry is the first that waits.
    script = "import os, sys\nsys.exit(3 + int(os.environ['UGRO_ATTEMPT']))\n"

    async def play() -> Any:
        await here.submit(script, retry=5)
        work = asyncio.create_task(here.run())
        await until(
            lambda: any("trying again in" in data.get("text", "") for _, data in here.told), "it backs off", 120
        )
        here.store.request_stop(JOB)
        return await asyncio.wait_for(work, AT_ONCE_S)

    outcome = asyncio.run(play())
    row = here.store.job(JOB)
    assert (row.status, row.reason) == (outcome.status, outcome.reason) == ("stopped", "stopped on request")
    assert here.store.busy() == {}


@pytest.mark.parametrize("what", ["stop", "hold"])
def test_a_retry_that_is_being_started_ends_at_once(here: Here, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    async def play() -> Any:
        reached = asyncio.Event()
        await here.submit("import sys\nprint('first', flush=True)\nsys.exit(3)\n", retry=1)
        real = Launcher.start

        async def start(self: Launcher, ready: Any, gang: Any) -> None:
            if gang.attempt == 2:
                _hangs(monkeypatch, "start", reached)
            await real(self, ready, gang)

        monkeypatch.setattr(Launcher, "start", start)
        work = asyncio.create_task(here.run())
        await reached.wait()
        if what == "stop":
            here.store.request_stop(JOB)
        else:
            here.store.hold(JOB, "ob")
        return await asyncio.wait_for(work, AT_ONCE_S)

    outcome = asyncio.run(play())
    row = here.store.job(JOB)
    assert row.status == outcome.status == ("stopped" if what == "stop" else "pending")
    assert here.store.busy() == {}
    assert not here.on_node("a").exists()
    assert not here.on_node("a", 2).exists()
    attempt = here.store.attempt(JOB)
    assert attempt is not None and attempt.number == 2 and attempt.ended_at is not None
    assert processes_here(attempt.token) == []


def test_a_hold_that_comes_when_the_ranks_are_on_their_way_sends_the_job_back(here: Here) -> None:
    async def play() -> Any:
        await here.submit(WAITS)
        work = asyncio.create_task(here.run())
        await until(lambda: here.events("following"), "it is followed")
        here.store.hold(JOB, "ob")
        return await asyncio.wait_for(work, AT_ONCE_S)

    outcome = asyncio.run(play())
    row = here.store.job(JOB)
    assert (row.status, row.reason, row.held, row.preempted) == ("pending", "held by ob", True, 0)
    assert outcome.status == "pending"
    assert here.store.busy() == {}


@pytest.mark.parametrize("what", ["stop", "hold"])
@pytest.mark.parametrize("phase", ["verify", "staging"])
def test_so_does_the_start_that_a_playbook_prepares(
    here: Here, monkeypatch: pytest.MonkeyPatch, phase: str, what: str
) -> None:
    store = here.store

    async def play() -> None:
        reached = asyncio.Event()
        _hangs(monkeypatch, phase, reached)
        await here.submit(WAITS)
        placements = place(Request(), ("a", "b"), store.gpus(), {})
        launcher = Launcher(JobRequest.from_dict(store.job(JOB).request), here.cluster, store, "ob", may_wait=True)
        work = asyncio.create_task(playbook._prepare(launcher, Start(JOB, tuple(placements))))
        await reached.wait()
        if what == "stop":
            store.request_stop(JOB)
        else:
            store.hold(JOB, "ob")
        await work

    with pytest.raises(NotFreeError if what == "hold" else JobStoppedError):
        asyncio.run(play())
    assert (store.job(JOB).status, store.busy()) == ("pending" if what == "hold" else "stopped", {})


def test_only_starts_that_fail_in_a_row_end_a_job(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ugro_py.queue.start.BACK_OFF_S", (0.0,) * 3)

    async def broken(*_: Any, **__: Any) -> None:
        raise NodeError("b: start", "no")

    monkeypatch.setattr(ready, "try_port", broken)

    async def play() -> list[str]:
        await here.submit(WAITS)
        outcomes = []
        for _ in range(4):
            outcomes.append((await here.run()).status)
            for number in range(30):  # of a large cluster
                here.store.add_event("warning", f"node {number} is slow", job=JOB)
        assert here.store.reopen(JOB)
        return [*outcomes, (await here.run()).status]

    assert asyncio.run(play()) == ["pending", "pending", "pending", "failed", "pending"]


def test_work_on_a_job_that_is_gone_does_not_go_on_alone(here: Here) -> None:
    ended = []

    async def work() -> None:
        try:
            await asyncio.sleep(FOR_EVER_S)
        finally:
            ended.append(True)

    async def play() -> None:
        with pytest.raises(NotFoundError):
            await asyncio.wait_for(call_off.unless_called_off(here.store, "gone", work()), AT_ONCE_S)
        assert ended == [True]

    asyncio.run(play())
