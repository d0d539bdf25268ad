# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A controller takes over a job in the middle of its end: how it ended is what the nodes wrote."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.job_store import JOB, NODES, JobStore, job_store  # noqa: F401 - a fixture
from ugro_py import endings, finish, late, transport
from ugro_py.cluster import Node
from ugro_py.endings import OUT_OF_TIME
from ugro_py.errors import NodeError, StateError
from ugro_py.gang import Outcome
from ugro_py.orders import Rules
from ugro_py.plan import Gang
from ugro_py.scheduler import Request, place
from ugro_py.state import Controller
from ugro_py.state.fence import LostControlError
from ugro_py.watch import Watcher

AWAY = "No route to host"


class Session:
    """A session to a node that has told everything already."""

    clock_offset_s = 0.0
    closed = False
    on_push: Any = None
    on_lost: Any = None

    def __init__(self, name: str) -> None:
        self.node = Node(name, "10.0.0.1")
        self.last_heard = float("inf")
        self.asked: list[tuple[str, Any]] = []

    async def call(self, method: str, **params: Any) -> Any:
        self.asked.append((method, params.get("reason")))
        if method == "stop":
            self.on_push({"push": "state", "state": "lost"})
        return {"left": 0} if method == "stop" else {}

    async def close(self) -> None:
        self.closed = True


class Taken:
    """An attempt of three nodes as another controller left it."""

    def __init__(self, jobs: JobStore) -> None:
        self.jobs, self.store = jobs, jobs.store
        placements = tuple(place(Request(), NODES, jobs.store.gpus(), {}))
        self.gang = Gang(JOB, jobs.attempt(), placements, "10.0.0.0", 29500, "t0k3n")
        self.sessions: dict[str, Session] = {}

    def node(self, rank: int, *, told: str | None = None, exit_code: int | None = 0, at: float = 10.0) -> None:
        """Let a node have written that its rank started, what it was told, and how it ended (None: it has not)."""
        name = NODES[rank]
        self.jobs.event(1, name, 1.0, "rank_started", rank=rank, pid=5)
        if told is not None:
            self.jobs.event(1, name, at, "stopping", reason=told, grace_s=1.0)
        if exit_code is None:
            return
        ended = {"exit_code": exit_code, "signal": None, "last_lines": []}
        self.jobs.event(1, name, at, "rank_exited", rank=rank, **ended)
        self.jobs.event(1, name, at, "finished", exit_code=exit_code, ranks={}, left_over=0, stop_reason=told)

    def follow(self, *away: str, rules: Rules | None = None) -> Outcome:
        self.sessions = {name: Session(name) for name in NODES if name not in away}
        lost = [(name, AWAY) for name in away]
        mine = self.store.acting_as(Controller.me())

        async def play() -> Outcome:
            async with asyncio.timeout(60):
                return await Watcher(mine, self.gang, {}, self.sessions, None, rules).run(lost)  # type: ignore[arg-type]

        return asyncio.run(play())


@pytest.fixture
def taken(job_store: JobStore) -> Taken:
    return Taken(job_store)


def test_a_job_that_had_completed_has_completed_although_a_node_is_away_now(taken: Taken) -> None:
    for rank in range(3):
        taken.node(rank)
    outcome = taken.follow(NODES[2])
    assert (outcome.status, outcome.reason) == ("completed", "")
    assert "node_lost" not in {event.kind for event in taken.store.events(JOB)}
    asyncio.run(finish.finish_attempt(taken.store, taken.gang, {}, {}, outcome, 100))
    told = [event.node for event in taken.store.events(JOB) if event.kind == "collect_failed"]
    assert told == list(NODES), "what lies on nodes that do not answer is not forgotten"


def test_a_node_that_is_away_before_it_told_its_end_is_lost(taken: Taken) -> None:
    taken.node(0)
    taken.node(1)
    taken.node(2, exit_code=None)
    outcome = taken.follow(NODES[2])
    assert outcome.status == "failed" and outcome.reason == f"node {NODES[2]} was lost: {AWAY}"


@pytest.mark.parametrize(
    ("told", "status", "exit_code"),
    [
        (endings.out_of_time(7200), "failed", OUT_OF_TIME),
        (endings.stalled(60), "failed", 1),
        (endings.made_room("urgent"), "preempted", 0),
        (endings.held("eva"), "preempted", 0),
        (endings.STOPPED, "stopped", 0),
    ],
)
def test_why_it_was_stopped_is_what_the_nodes_were_told(taken: Taken, told: str, status: str, exit_code: int) -> None:
    for rank in range(3):
        taken.node(rank, told=told, exit_code=143)
    outcome = taken.follow()
    assert (outcome.status, outcome.exit_code) == (status, exit_code)
    assert outcome.reason == ("stopped on request" if told == endings.STOPPED else told)
    assert (outcome.failure is not None) == (told == endings.stalled(60))


def test_a_stop_that_had_only_begun_is_ended_for_its_reason(taken: Taken) -> None:
    told = endings.out_of_time(7200)
    taken.node(0, told=told, exit_code=143)
    taken.node(1, told=told, exit_code=None)
    taken.node(2, exit_code=None)
    outcome = taken.follow()
    assert (outcome.status, outcome.reason, outcome.exit_code) == ("failed", told, OUT_OF_TIME)
    assert ("stop", told) in taken.sessions[NODES[2]].asked


def test_a_failure_before_the_stop_is_the_cause_and_not_what_the_others_were_told(taken: Taken) -> None:
    taken.node(0, told=endings.FAILED, exit_code=143, at=10.0)
    taken.node(1, told=endings.FAILED, exit_code=143, at=11.0)
    taken.node(2, exit_code=None)  # it was lost; who knew that is gone
    outcome = taken.follow(NODES[2])
    assert outcome.status == "failed" and outcome.reason == f"node {NODES[2]} was lost: {AWAY}"


def test_a_node_that_stops_by_itself_has_failed(taken: Taken) -> None:
    for rank in range(3):
        taken.node(rank, told="cut off from the others for 20 s", exit_code=143)
    outcome = taken.follow()
    assert outcome.status == "failed" and "cut off from the others" in outcome.reason


def test_who_lost_the_job_stops_nobody(taken: Taken) -> None:
    taken.node(0, exit_code=1)
    taken.node(1, exit_code=None)
    taken.node(2, exit_code=None)
    me = Controller.me()

    class Late(Session):
        async def call(self, method: str, **params: Any) -> Any:
            if method == "follow" and taken.store.job(JOB).controller == me:
                assert taken.store.claim(JOB, Controller("standby", "boot", 1, 1, replaces=me))
            return await super().call(method, **params)

    sessions = {name: Late(name) for name in NODES}

    async def play() -> Outcome:
        async with asyncio.timeout(60):
            return await Watcher(taken.store.acting_as(me), taken.gang, {}, sessions).run()  # type: ignore[arg-type]

    with pytest.raises(LostControlError):
        asyncio.run(play())
    assert not [asked for session in sessions.values() for asked in session.asked if asked[0] == "stop"]


def test_who_leaves_in_the_middle_of_a_stop_takes_no_node_for_lost(taken: Taken) -> None:
    for rank in range(3):
        taken.node(rank, exit_code=None)
    taken.store.request_stop(JOB)

    class Slow(Session):
        """Its ranks write a checkpoint; closed meanwhile, it says what a real one says."""

        def __init__(self, name: str) -> None:
            super().__init__(name)
            self.ended = asyncio.Event()

        async def call(self, method: str, **params: Any) -> Any:
            if method != "stop":
                return await super().call(method, **params)
            self.asked.append((method, params["reason"]))
            await self.ended.wait()
            raise NodeError(f"{self.node.name}: session", "the connection was lost")

        async def close(self) -> None:
            self.ended.set()

    async def play() -> None:
        sessions = {name: Slow(name) for name in NODES}
        watcher = Watcher(taken.store.acting_as(Controller.me()), taken.gang, {}, sessions)  # type: ignore[arg-type]
        following = asyncio.create_task(watcher.run())
        while not all(("stop", endings.STOPPED) in session.asked for session in sessions.values()):
            await asyncio.sleep(0.02)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        for session in sessions.values():
            await session.close()
        await asyncio.sleep(0.5)
        assert watcher.state.lost == {}

    async def in_time() -> None:
        async with asyncio.timeout(60):
            await play()

    asyncio.run(in_time())
    assert "node_lost" not in {event.kind for event in taken.store.events(JOB)}
    assert "lost" not in {rank.status for rank in taken.store.ranks(JOB)}


def test_what_a_controller_before_left_is_brought_in_beside_the_loop(
    taken: Taken, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that hangs must not hold up whoever follows other jobs in the same loop."""
    late.note_collecting(taken.store, taken.gang)
    in_loop: list[str] = []
    begin = taken.store.database._errors

    def told() -> Any:
        if threading.current_thread() is threading.main_thread():
            in_loop.append("a call")
        return begin()

    monkeypatch.setattr(taken.store.database, "_errors", told)

    async def nothing(*_: Any) -> Any:
        return {}

    async def not_reached(*_: Any) -> Any:
        return [], {NODES[1]: "gpu1: not reached"}

    monkeypatch.setattr(late, "load_gang", lambda job, number: (taken.gang, None))
    monkeypatch.setattr(late, "nodes_of", lambda gang, cluster: {})
    monkeypatch.setattr(late, "open_sessions", nothing)
    monkeypatch.setattr(late, "salvage", not_reached)

    async def play() -> None:
        await asyncio.gather(*await late.bring_in_earlier(taken.store, replace(taken.gang, attempt=2)))

    asyncio.run(play())
    assert not in_loop
    assert late.uncollected(taken.store, JOB) == []
    assert [event.node for event in taken.store.events(JOB) if event.kind == "collect_failed"] == [NODES[1]]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), StateError("rebuild", "No space left")])
def test_a_full_store_while_an_earlier_attempt_is_brought_in_does_not_end_the_job(
    taken: Taken, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    session = transport.Session.__new__(transport.Session)  # which is asked nothing

    async def answers(*_: Any) -> Any:
        return {NODES[1]: session}

    async def full(*_: Any) -> Any:
        raise error

    async def nothing(*_: Any) -> Any:
        return {}

    monkeypatch.setattr(late, "load_gang", lambda job, number: (taken.gang, None))
    monkeypatch.setattr(late, "nodes_of", lambda gang, cluster: {})
    monkeypatch.setattr(late, "open_sessions", answers)
    monkeypatch.setattr(late, "close_all", nothing)
    monkeypatch.setattr(late, "salvage", full)
    asyncio.run(late._bring_in(taken.store, JOB, [1]))
    (told,) = [event for event in taken.store.events(JOB) if event.kind == "collect_failed"]
    assert told.node == NODES[1] and "No space left" in told.text

    async def silent(*_: Any) -> Any:
        return {}

    launcher: Any = SimpleNamespace(stop_started=silent, store=taken.store)
    asyncio.run(late.end_partly_started(launcher, taken.gang, {}, {NODES[2]: session}))
    assert [event.node for event in taken.store.events(JOB) if event.kind == "collect_failed"] == [NODES[1], NODES[2]]


def test_an_attempt_ended_when_it_ended_and_not_when_somebody_found_that_again(taken: Taken) -> None:
    """Else the time in which nobody was there counts for the time limit of the job."""
    at = datetime.now(UTC) + timedelta(seconds=5)
    taken.store.set_attempt(JOB, 1, status="failed", ended_at=at)
    finish.close_attempt(taken.store, taken.gang, Outcome("failed", "rank 0 ended", 1))
    attempt = taken.store.attempt(JOB, 1)
    assert attempt is not None and (attempt.ended_at, attempt.reason) == (at, "rank 0 ended")
