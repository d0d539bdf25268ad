"""What the store promises, on SQLite and on PostgreSQL."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from ugro_py.cluster import Node
from ugro_py.errors import AllocationError, NotFoundError, UsageError
from ugro_py.scheduler import Gpu, Placement, Request, place
from ugro_py.state import Controller, Store

NODES = (Node("gpu-master", "10.0.0.100", role="master"), Node("gpu1", "10.0.0.101"))


def gpu(node: str, index: int, kind: str = "cuda") -> Gpu:
    return Gpu(f"GPU-{node}-{index}", node, index, kind, "RTX 4070", 8.0)  # type: ignore[arg-type]


@pytest.fixture
def cluster(store: Store) -> Store:
    """A store that knows gpu-master with one GPU and gpu1 with two."""
    store.sync_node(NODES[0], [gpu("gpu-master", 0)], {"python": "3.11"})
    store.sync_node(NODES[1], [gpu("gpu1", 0), gpu("gpu1", 1)], {})
    return store


def planned(store: Store, request: Request | None = None) -> list[Placement]:
    return place(request or Request(), [node.name for node in NODES], store.gpus(), store.busy())


def start(store: Store, job: str, placements: list[Placement]) -> int:
    return store.start_attempt(job, placements, master_addr="10.0.0.100", master_port=29500, token="t0k3n")


def test_nodes_and_gpus_come_back_as_they_were_given(cluster: Store) -> None:
    assert cluster.gpus() == [gpu("gpu-master", 0), gpu("gpu1", 0), gpu("gpu1", 1)]
    assert cluster.gpus(["gpu1"]) == [gpu("gpu1", 0), gpu("gpu1", 1)]
    assert cluster.gpus([]) == []
    first = cluster.nodes()[0]
    assert (first.name, first.address, first.status, first.reason) == ("gpu-master", "10.0.0.100", "available", "")
    assert first.facts == {"python": "3.11"}
    assert first.last_seen is not None
    assert abs(datetime.now(UTC) - first.last_seen) < timedelta(minutes=1)


def test_sync_node_follows_what_the_node_answers(cluster: Store) -> None:
    cluster.create_job("one", "ob", {})
    start(cluster, "one", planned(cluster))
    moved = dataclasses.replace(gpu("gpu1", 1), index=0, vram_gb=None)
    cluster.sync_node(Node("gpu1", "10.0.0.201"), [moved], {"new": True})
    # Index order changed and one GPU is gone; the one that is gone stays allocated.
    assert cluster.gpus(["gpu1"]) == [moved]
    assert cluster.busy()["GPU-gpu1-0"] == "one"
    assert [row.address for row in cluster.nodes()] == ["10.0.0.100", "10.0.0.201"]
    assert [(e.kind, e.node, e.severity) for e in cluster.events()][-1] == ("gpu_missing", "gpu1", "warning")

    cluster.sync_node(NODES[1], [gpu("gpu1", 0), gpu("gpu1", 1)], {})
    assert cluster.gpus(["gpu1"]) == [gpu("gpu1", 0), gpu("gpu1", 1)]
    assert cluster.events()[-1].kind == "gpu_back"


def test_sync_node_twice_changes_nothing(cluster: Store) -> None:
    events = cluster.events()
    cluster.sync_node(NODES[1], [gpu("gpu1", 0), gpu("gpu1", 1)], {})
    assert cluster.events() == events


def test_node_status(cluster: Store) -> None:
    cluster.set_node_status("gpu1", "unreachable", "ssh: no route")
    cluster.set_node_status("gpu1", "unreachable", "ssh: no route")
    assert [e.text for e in cluster.events()] == ["available -> unreachable: ssh: no route"]
    cluster.sync_node(NODES[1], [gpu("gpu1", 0)], {})
    assert (cluster.nodes()[1].status, cluster.nodes()[1].reason) == ("available", "")
    cluster.set_node_status("gpu1", "drained", "by ob")
    cluster.sync_node(NODES[1], [gpu("gpu1", 0)], {})
    assert (cluster.nodes()[1].status, cluster.nodes()[1].reason) == ("drained", "by ob")
    with pytest.raises(NotFoundError, match="gpu9"):
        cluster.set_node_status("gpu9", "drained")


def test_job_from_request_to_end(cluster: Store) -> None:
    request = {"model": "tiny-llama", "env": {"A": "{{ 1 }}", "ü": "'\"\\"}, "nodes": None}
    made = cluster.create_job("one", "ob", request)
    assert made == cluster.job("one")
    assert (made.status, made.request, made.user, made.active) == ("pending", request, "ob", True)
    assert (made.started_at, made.ended_at, made.controller, made.stop_requested) == (None, None, None, False)

    cluster.set_job("one", "starting")
    assert cluster.job("one").started_at is None
    cluster.set_job("one", "running")
    running = cluster.job("one")
    assert running.started_at is not None
    assert running.started_at.utcoffset() == timedelta(0)
    cluster.set_job("one", "running")
    cluster.set_job("one", "failed", "rank 1 on gpu1 ended with 3", exit_code=7)
    ended = cluster.job("one")
    assert (ended.status, ended.reason, ended.exit_code) == ("failed", "rank 1 on gpu1 ended with 3", 7)
    assert ended.started_at == running.started_at
    assert ended.ended_at is not None
    assert not ended.active
    assert [(e.text, e.severity) for e in cluster.events("one")] == [
        ("pending", "info"),
        ("pending -> starting", "info"),
        ("starting -> running", "info"),
        ("running -> failed: rank 1 on gpu1 ended with 3", "error"),
    ]
    cluster.set_job("one", "starting")
    assert cluster.job("one").ended_at is None
    with pytest.raises(ValueError, match="exploded"):
        cluster.set_job("one", "exploded")


def test_job_names(store: Store) -> None:
    store.create_job("experiment_v1", "ob", {})
    with pytest.raises(UsageError, match=r"taken by the pending job of ob .*--name"):
        store.create_job("experiment_v1", "ollie", {})
    with pytest.raises(UsageError, match="not a valid name"):
        store.create_job("../x", "ob", {})
    with pytest.raises(NotFoundError, match="did you mean experiment_v1"):
        store.job("experiment_v2")
    with pytest.raises(NotFoundError) as caught:
        store.job("z" * 10_000)
    assert len(str(caught.value)) < 200
    assert [job.name for job in store.jobs()] == ["experiment_v1"]


def test_every_verb_refuses_an_unknown_job(store: Store) -> None:
    for call in (
        lambda: store.set_job("no", "running"),
        lambda: store.release("no"),
        lambda: store.ranks("no"),
        lambda: store.attempt("no"),
        lambda: store.claim("no", Controller.me()),
        lambda: store.request_stop("no"),
        lambda: store.events("no"),
        lambda: store.add_event("x", "x", job="no"),
        lambda: store.set_attempt("no", 1, status="running"),
        lambda: store.set_rank("no", 1, 0, status="running"),
        lambda: start(store, "no", []),
    ):
        with pytest.raises(NotFoundError):
            call()
    assert store.events() == []


def test_jobs_are_listed_newest_first_and_filtered(store: Store) -> None:
    for name, status in (("a", "completed"), ("b", "running"), ("c", "stopped"), ("d", "pending")):
        store.create_job(name, "ob", {})
        store.set_job(name, status)
    assert [job.name for job in store.jobs()] == ["d", "c", "b", "a"]
    assert [job.name for job in store.jobs(active=True)] == ["d", "b"]
    assert [job.name for job in store.jobs(active=False, limit=1)] == ["c"]


def test_attempt_allocates_all_gpus_and_release_frees_them(cluster: Store) -> None:
    cluster.create_job("one", "ob", {})
    assert cluster.attempt("one") is None
    assert cluster.ranks("one") == []
    assert start(cluster, "one", planned(cluster)) == 1
    assert cluster.busy() == {"GPU-gpu-master-0": "one", "GPU-gpu1-0": "one", "GPU-gpu1-1": "one"}
    attempt = cluster.attempt("one")
    assert attempt is not None
    assert (attempt.number, attempt.status, attempt.master_addr, attempt.master_port) == (
        1,
        "starting",
        "10.0.0.100",
        29500,
    )
    assert attempt.token == "t0k3n"
    assert "t0k3n" not in repr(attempt)
    assert [(r.rank, r.node, r.local_rank, r.gpu_uuid, r.gpu_index) for r in cluster.ranks("one")] == [
        (0, "gpu-master", 0, "GPU-gpu-master-0", 0),
        (1, "gpu1", 0, "GPU-gpu1-0", 0),
        (2, "gpu1", 1, "GPU-gpu1-1", 1),
    ]
    assert cluster.release("one") == 3
    assert cluster.release("one") == 0
    assert cluster.busy() == {}


def test_a_held_gpu_refuses_the_whole_attempt(cluster: Store) -> None:
    cluster.create_job("one", "ob", {})
    cluster.create_job("two", "ob", {})
    everything = planned(cluster)
    start(cluster, "one", planned(cluster, Request(include={"gpu1": (1,)})))
    before = cluster.events()
    with pytest.raises(AllocationError, match="allocate gpu1:1: job one holds it"):
        start(cluster, "two", everything)
    assert cluster.busy() == {"GPU-gpu1-1": "one"}
    assert cluster.attempt("two") is None
    assert cluster.ranks("two") == []
    assert cluster.events() == before
    twice = [Placement(rank, "gpu1", rank, gpu("gpu1", 0)) for rank in (0, 1)]
    with pytest.raises(AllocationError, match="one of them is held"):
        start(cluster, "two", twice)
    assert cluster.busy() == {"GPU-gpu1-1": "one"}
    unknown = [Placement(0, "gpu1", 0, gpu("gpu1", 7))]
    with pytest.raises(AllocationError, match="GPU-gpu1-7 is not in the state database"):
        start(cluster, "two", unknown)
    cluster.release("one")
    assert start(cluster, "two", everything) == 1


@pytest.mark.parametrize("how", ["ended", "waits"])
def test_a_job_that_does_not_run_holds_no_gpu(cluster: Store, how: str) -> None:
    """Also where its controller had let go of its GPUs before an attempt that was on its way came to take them."""
    cluster.create_job("one", "ob", {})
    start(cluster, "one", planned(cluster))
    if how == "ended":
        cluster.set_job("one", "stopped", "on request")
    else:
        cluster.set_waiting("one", "held by eva")
    assert cluster.busy() == {}
    assert cluster.holders() == []


def test_attempt_numbers_only_grow_and_gpus_pass_from_an_ended_attempt(cluster: Store) -> None:
    cluster.create_job("one", "ob", {})
    everything = planned(cluster)
    start(cluster, "one", everything)
    # Never two live attempts of a job.
    with pytest.raises(AllocationError, match="job one holds it"):
        start(cluster, "one", everything)
    cluster.set_attempt("one", 1, status="failed", first_failed_rank=2, reason="rank 2 was killed")
    assert len(cluster.busy()) == 3
    assert start(cluster, "one", everything[:2]) == 2
    assert cluster.busy() == {"GPU-gpu-master-0": "one", "GPU-gpu1-0": "one"}
    assert cluster.release("one") == 2
    assert start(cluster, "one", everything) == 3
    assert [len(cluster.ranks("one", number)) for number in (1, 2, 3)] == [3, 2, 3]
    assert len(cluster.ranks("one")) == 3
    assert cluster.ranks_of(["one"]) == {"one": cluster.ranks("one")}
    first = cluster.attempt("one", 1)
    assert first is not None
    assert (first.status, first.first_failed_rank, first.reason) == ("failed", 2, "rank 2 was killed")
    assert first.ended_at is not None
    newest = cluster.attempt("one")
    assert newest is not None
    assert newest.number == 3


def test_rank_and_attempt_values(cluster: Store) -> None:
    cluster.create_job("one", "ob", {})
    start(cluster, "one", planned(cluster))
    cluster.set_rank("one", 1, 2, status="running", pid=4242)
    rank = cluster.ranks("one")[2]
    assert (rank.status, rank.pid, rank.ended_at) == ("running", 4242, None)
    assert rank.started_at is not None
    cluster.set_rank("one", 1, 2, status="failed", exit_code=-9, signal=9)
    rank = cluster.ranks("one")[2]
    assert (rank.exit_code, rank.signal, rank.pid) == (-9, 9, 4242)
    assert rank.ended_at is not None
    assert [r.status for r in cluster.ranks("one")] == ["pending", "pending", "failed"]
    at = datetime(2026, 1, 20, 12, 0, 0, 123456, tzinfo=UTC)
    cluster.set_attempt("one", 1, sync_window_s=0.25, master_port=31000, ended_at=at)
    attempt = cluster.attempt("one")
    assert attempt is not None
    assert (attempt.sync_window_s, attempt.master_port, attempt.ended_at) == (0.25, 31000, at)
    with pytest.raises(ValueError, match="colour"):
        cluster.set_rank("one", 1, 0, colour="red")
    with pytest.raises(ValueError, match="token"):
        cluster.set_attempt("one", 1, token="other")
    with pytest.raises(NotFoundError, match="rank 9"):
        cluster.set_rank("one", 1, 9, status="running")


def test_events_are_limited_to_the_newest_and_keep_their_data(cluster: Store) -> None:
    cluster.create_job("one", "ob", {})
    for number in range(5):
        cluster.add_event("step", f"{number}", job="one", node="gpu1", rank=1, data={"n": [number]})
    cluster.add_event("other", "no job", severity="warning")
    newest = cluster.events("one", limit=2)
    assert [(e.text, e.data) for e in newest] == [("3", {"n": [3]}), ("4", {"n": [4]})]
    assert (newest[0].job, newest[0].node, newest[0].rank) == ("one", "gpu1", 1)
    last = cluster.events()[-1]
    assert (last.text, last.job, last.data, last.severity) == ("no job", None, None, "warning")
