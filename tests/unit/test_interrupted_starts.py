# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""How often a job whose start is interrupted goes back to the queue, and what is told of one that ends there."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tests.unit.here import JOB, Here, here  # noqa: F401 - a fixture
from ugro_py import late, takeover
from ugro_py.agent.jobs import Jobs
from ugro_py.call_off import CalledOffError
from ugro_py.cluster import Node
from ugro_py.errors import NodeError
from ugro_py.launch import Launcher
from ugro_py.plan import Gang
from ugro_py.queue import actions, start, wait
from ugro_py.request.job import JobRequest
from ugro_py.saved import save_gang
from ugro_py.scheduler import Request, place
from ugro_py.takeover import _INTERRUPTED_STARTS, _ROLLED_BACK, _start_anew, adopt, give_up
from ugro_py.transport import Session


@pytest.mark.parametrize(("reasons", "status"), [
    ([_ROLLED_BACK] * (_INTERRUPTED_STARTS - 1), "pending"),
    ([_ROLLED_BACK] * _INTERRUPTED_STARTS, "failed"),
    ([_ROLLED_BACK] * _INTERRUPTED_STARTS + ["a rank failed", _ROLLED_BACK], "pending"),  # it ran in between
])  # fmt: skip
def test_only_those_in_a_row_count(here: Here, reasons: list[str], status: str) -> None:
    asyncio.run(here.submit("print('never')"))
    store = here.store
    assert store.claim(JOB, here.me)
    placements = place(Request(), ("a", "b"), store.gpus(), {})
    for number, reason in enumerate(reasons, 1):
        assert store.start_attempt(JOB, placements, master_addr="x", master_port=1, token=str(number)) == number
        store.set_attempt(JOB, number, status="failed", reason=reason)
    outcome = _start_anew(store, store.job(JOB), here.me, "its controller ended")
    assert (outcome.status, store.job(JOB).status) == (status, status)
    assert store.busy() == {}


def _waits_uncollected(here: Here) -> None:
    """Leave a job in the queue whose first attempt failed and was being collected as its controller was killed."""
    asyncio.run(here.submit("print('never')"))
    store = here.store
    placements = tuple(place(Request(), ("a", "b"), store.gpus(), {}))
    for number in (1, 2):  # of the second nothing but its record was made
        store.start_attempt(JOB, placements, master_addr="x", master_port=1, token=str(number))
        if number == 1:
            late.note_collecting(store, Gang(JOB, 1, placements, "x", 1, "1"))
            store.set_attempt(JOB, 1, status="failed", reason="a rank failed")
    job = store.job(JOB)
    assert asyncio.run(adopt(store, job, here.me, lambda kind, data: None)).status == "pending"
    assert (store.job(JOB).status, late.uncollected(store, JOB)) == ("pending", [1])


@pytest.mark.parametrize("how", ["stopped", "cancelled", "by an agent", "not followed", "not started"])
def test_what_was_not_collected_of_a_job_that_is_stopped_in_the_queue_is_told(here: Here, how: str) -> None:
    _waits_uncollected(here)
    store = here.store
    if how == "cancelled":
        store.unclaim(JOB, here.me)
        assert actions.cancel(store, JOB, "ob")
    elif how == "by an agent":
        give_up(store, JOB, here.me, "stopped on request before it started", "stopped")
    elif how == "not followed":
        Jobs(store, here.me, lambda: None)._end(JOB, here.me, "stopped", "it could not be followed")
    elif how == "not started":
        launcher = Launcher(JobRequest.from_dict(store.job(JOB).request), here.cluster, store, "ob", None, here.me)
        asyncio.run(start._called_off(launcher, CalledOffError(JOB, "stopped", held=False)))
    else:
        store.request_stop(JOB)
        job = store.job(JOB)
        assert asyncio.run(wait.wait_and_run(store, here.cluster, job, here.me, lambda *_: None)).status == "stopped"
    assert store.job(JOB).status == "stopped"
    (told,) = here.events("collect_failed")
    assert told.startswith("what attempt 1 wrote") and f"collect.yml -e job={JOB}" in told


def test_a_node_that_is_away_as_a_start_is_rolled_back_is_told_of(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(here.submit("print('never')"))
    store = here.store
    gang = Gang(JOB, 1, tuple(place(Request(), ("a", "b"), store.gpus(), {})), "x", 1, "t")
    store.start_attempt(JOB, gang.placements, master_addr="x", master_port=1, token="t")
    save_gang(gang, here.cluster, store.identity())
    real = takeover.open_sessions

    async def without_b(nodes: Sequence[Node]) -> dict[str, Session | NodeError]:
        opened = await real([node for node in nodes if node.name != "b"])
        return {**opened, "b": NodeError("b: session", "no answer for 5 s")}

    monkeypatch.setattr(takeover, "open_sessions", without_b)
    assert asyncio.run(adopt(store, store.job(JOB), here.me, lambda kind, data: None)).status == "pending"
    (told,) = [event for event in store.events(JOB) if event.kind == "collect_failed"]
    assert told.node == "b" and "no answer for 5 s" in told.text
