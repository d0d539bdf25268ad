"""The queue in the store, and what a decision is told of it."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, select, text, update

from tests.unit.queue_store import CLUSTER, NODES, known, now_decided, order, start, submit  # noqa: F401 - a fixture
from ugro_py.errors import StateError
from ugro_py.queue import actions
from ugro_py.queue.model import Snapshot
from ugro_py.queue.snapshot import decayed_usage, snapshot_of
from ugro_py.scheduler import Gpu, Placement, Request
from ugro_py.state import Controller, Store
from ugro_py.state.models import allocations, attempts, jobs


def test_an_empty_queue_asks_for_nothing_else(known: Store) -> None:
    assert snapshot_of(known, CLUSTER, 5.0) == Snapshot(5.0)


def test_jobs_start_until_the_gpus_are_used_up(known: Store) -> None:
    submit(known, "a", 3, time_limit_s=3600)
    submit(known, "b", 4)
    submit(known, "c", 1)
    decision = now_decided(known)
    before = time.time()
    assert start(known, decision) == ["a"]
    started = time.time()
    later = now_decided(known)
    assert later.order == ("b", "c")
    assert "is used by job a (until " in later.reasons["b"]
    assert (
        later.reasons["c"]
        == "behind job b (priority 50), which the free GPUs are kept for; " + (later.reasons["c"].partition("; ")[2])
    )
    assert before + 3609 < later.expected["b"] < started + 3611
    known.note_reasons(later.reasons)
    assert known.job("b").reason == later.reasons["b"]
    assert [event.kind for event in known.events("b")] == ["job_status"]


def test_a_short_job_goes_ahead(known: Store) -> None:
    submit(known, "a", 3, time_limit_s=3600)
    submit(known, "b", 4)
    submit(known, "c", 1, time_limit_s=3000)
    assert start(known, now_decided(known)) == ["a", "c"]


def test_quotas_and_their_use(known: Store) -> None:
    known.set_account("user", "ob", max_gpus=2)
    known.set_account("group", "lab", gpu_hours_week=1.0)
    submit(known, "a", 1)
    submit(known, "b", 2)
    submit(known, "c", 1, user="eva", group="lab")
    assert start(known, now_decided(known)) == ["a", "c"]
    submit(known, "d", 1, user="eva", group="lab")
    with known.database.write() as connection:
        begun = datetime.now(UTC) - timedelta(hours=2)
        connection.execute(update(allocations).values(allocated_at=begun))
    reasons = now_decided(known).reasons
    assert reasons["b"] == "quota: ob uses 1 of 2 GPUs, 2 asked"
    assert reasons["d"] == "quota: group lab used 2.0 of 1 GPU hours in the last 7 days"


def test_nodes_and_gpus_that_are_not_to_be_had(known: Store) -> None:
    known.drain("gpu1", "ob", "new fan")
    submit(known, "a", 3)
    submit(known, "b", 2)
    decision = now_decided(known)
    assert start(known, decision) == ["b"]
    assert "gpu1 is drained by ob: new fan" in decision.reasons["a"]


def test_after(known: Store) -> None:
    submit(known, "first")
    for name, after in (("a", ["first"]), ("b", ["lost"]), ("c", ["b"])):
        submit(known, name, after=after)
    known.set_job("first", "running")
    decision = now_decided(known)
    assert decision.reasons["a"] == "after job first"
    assert [(fail.job, fail.reason) for fail in decision.fail] == [
        ("b", "job lost, which it was to follow, does not exist")
    ]
    known.set_job("first", "completed")
    assert start(known, now_decided(known)) == ["a"]


def test_a_job_that_nobody_would_start_holds_up_nobody(store: Store) -> None:
    for node in NODES[:1]:
        store.sync_node(node, [Gpu("only", node.name, 0, "cuda", "RTX", 8.0)], {})
    submit(store, "lost")
    submit(store, "waits")
    dead = Controller(Controller.me().host, "another boot", 4711, 1)
    assert store.claim("lost", dead)
    assert store.claim("waits", Controller.me())
    with store.database.write() as connection:
        connection.execute(update(jobs).values(created_at=datetime.now(UTC) - timedelta(seconds=60)))
    decision = now_decided(store)
    assert [begun.job for begun in decision.start] == ["waits"]
    assert "no agent runs" in decision.reasons["lost"]


def test_urgent_jobs_stop_batch_jobs_which_queue_again_behind_them(known: Store) -> None:
    submit(known, "batch", 4, priority=10)
    assert start(known, now_decided(known)) == ["batch"]
    with known.database.write() as connection:  # it waited for so long that its age would put it ahead of any
        connection.execute(update(jobs).values(created_at=datetime.now(UTC) - timedelta(days=30)))
    submit(known, "urgent", 2, user="eva", priority=90)
    decision = now_decided(known)
    assert [(p.job, p.for_job) for p in decision.preempt] == [("batch", "urgent")]
    assert actions.preempt(known, "batch", "urgent")
    assert not actions.preempt(known, "batch", "urgent")
    again = now_decided(known)
    assert again.preempt == () and "is used by job batch (stopping)" in again.reasons["urgent"]
    known.set_attempt("batch", 1, status="stopped")
    known.requeue("batch", "made room for urgent", preempted=True)
    decision = now_decided(known)
    assert decision.order == ("urgent", "batch")
    assert start(known, decision) == ["urgent"]


def test_held_jobs(known: Store) -> None:
    submit(known, "a", hold=True)
    assert now_decided(known).reasons == {"a": "held by ob"}
    assert actions.release(known, "a", "eva") and not actions.release(known, "a", "eva")
    assert actions.hold(known, "a", "eva") and not actions.hold(known, "a", "ob")
    assert now_decided(known).reasons == {"a": "held by eva"}
    actions.release(known, "a", "eva")
    assert start(known, now_decided(known)) == ["a"]
    assert [event.text for event in known.events("a") if event.kind in ("held", "let_go")] == [
        "let go by eva", "held by eva", "let go by eva"]  # fmt: skip


def test_what_the_time_limit_leaves(known: Store) -> None:
    submit(known, "a", 4, time_limit_s=3600)
    before = time.time()
    start(known, now_decided(known))
    started = time.time()
    with known.database.write() as connection:
        job_id = connection.scalar(select(jobs.c.id))
        at = datetime.now(UTC)
        connection.execute(
            insert(attempts).values(
                job_id=job_id, number=2, status="failed", master_addr="x", master_port=1, token="t",
                started_at=at - timedelta(seconds=1200), ended_at=at - timedelta(seconds=200),
            )
        )  # fmt: skip
    submit(known, "b", 1)
    (running,) = snapshot_of(known, CLUSTER, time.time()).running
    assert before + 2609 < (running.ends_at or 0) < started + 2611


def test_older_use_counts_less(known: Store) -> None:
    half_life = 3600.0
    for name, user in (("a", "ob"), ("b", "eva")):
        submit(known, name, user=user)
        gpu = Gpu(f"master-{int(user == 'eva')}", "master", 0, "cuda", "RTX", 8.0)
        known.start_attempt(name, [Placement(0, "master", 0, gpu)], master_addr="x", master_port=1, token=name)
    at = datetime.now(UTC)
    with known.database.write() as connection:
        for number, (begin, end) in enumerate([(7300, 7200), (110, 10)]):
            connection.execute(
                update(allocations)
                .where(allocations.c.id == number + 1)
                .values(allocated_at=at - timedelta(seconds=begin), released_at=at - timedelta(seconds=end))
            )
    used = decayed_usage(known, half_life, at.timestamp())
    assert used["eva"] == pytest.approx(100, rel=0.03)
    assert used["ob"] == pytest.approx(25, rel=0.03)
    # What was summed up before decays on, and nothing is counted twice.
    for later in (30, 100, 3600):
        now = at.timestamp() + later
        fresh = Store(known.database)
        assert decayed_usage(known, half_life, now) == pytest.approx(decayed_usage(fresh, half_life, now), rel=1e-6)


def test_a_request_is_read_once(known: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    submit(known, "a", 8, exclude=["gpu1:1"], min_vram_gb=4)
    assert snapshot_of(known, CLUSTER, 1.0).waiting[0].request == Request(gpus=8, exclude={"gpu1": (1,)}, min_vram_gb=4)
    monkeypatch.setattr(Store, "requests", lambda *_: pytest.fail("read again"))
    submit_another = snapshot_of(known, CLUSTER, 2.0)
    assert len(submit_another.waiting) == 1


@pytest.mark.parametrize(
    "request_",
    [
        [], "x", {"gpus": 1}, {"name": "bad", "gpus": "two"}, {"name": "bad", "gpus": -1},
        {"name": "bad", "nodes": True}, {"name": "bad", "include": ["gpu1:x"]}, {"name": "bad", "include": 3},
        {"name": "bad", "min_vram_gb": {}},
    ],
)  # fmt: skip
def test_a_request_that_makes_no_sense_holds_up_nobody(known: Store, request_: object) -> None:
    submit(known, "bad")
    submit(known, "good")
    with known.database.write() as connection:
        connection.execute(update(jobs).where(jobs.c.name == "bad").values(request=request_))
    assert start(known, now_decided(known)) == ["good"]
    bad = known.job("bad")
    assert bad.status == "failed" and bad.reason.startswith("its request in the database makes no sense: ")


@pytest.mark.parametrize(
    "row", ["", "{", "no JSON", '{"name": "bad"', "[" * 5000, '"text"', "[]", "null", "7", b"\xff\xfe"]
)
def test_a_request_that_cannot_be_read_breaks_no_other_row(known: Store, row: str | bytes) -> None:
    submit(known, "bad")
    submit(known, "good")
    wanted = known.job("good").request
    change = "UPDATE jobs SET request = :row WHERE name = 'bad'"
    try:
        with known.database.write() as connection:
            connection.execute(text(change), {"row": row})
    except StateError:
        assert not known.database.sqlite  # PostgreSQL keeps such a text out
        return
    for found in (known.jobs(), known.jobs(active=True)):
        assert {job.name: job.request for job in found} == {"bad": {}, "good": wanted}
    assert known.job("bad").request == {}
    assert start(known, now_decided(known)) == ["good"]
    assert known.job("bad").status == "failed"
    assert known.reopen("bad", time_limit_s=60.0)
    assert known.job("bad").request == {"time_limit_s": 60.0}
