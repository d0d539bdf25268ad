# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Health in the store: states, events of changes, history with an end, drains, what no job may be placed on."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import update

from ugro_py.cluster import Node
from ugro_py.errors import NotFoundError
from ugro_py.scheduler import Gpu
from ugro_py.state import Store, models
from ugro_py.state._base import now
from ugro_py.state._drains import BY_HEALTH
from ugro_py.state._health import Check

GPUS = [Gpu(f"GPU-{index}", "gpu1", index, "cuda", "RTX 4070", 8.0) for index in range(2)]


def check(state: str, reason: str = "", **more: object) -> Check:
    return Check("gpu1", "10.0.0.101", state, reason, **more)  # type: ignore[arg-type]


def told(store: Store) -> list[tuple[str, str, str]]:
    return [(event.kind, event.severity, event.text) for event in store.events()]


def age(store: Store, seconds: float) -> None:
    """Make everything that was checked `seconds` older."""
    with store.database.write() as connection:
        connection.execute(update(models.nodes).values(health_at=now() - timedelta(seconds=seconds)))
        connection.execute(update(models.health_checks).values(at=now() - timedelta(seconds=seconds)))


def test_a_state_that_changes_is_an_event_and_one_that_stays_is_none(store: Store) -> None:
    assert store.record_checks([check("healthy")]) == ["gpu1"]
    assert store.record_checks([check("healthy"), check("healthy")]) == []
    assert store.record_checks([check("unreachable", "silent for 4.5 s", severity="critical")]) == ["gpu1"]
    row = store.nodes()[0]
    assert (row.health, row.health_reason, row.status) == ("unreachable", "silent for 4.5 s", "unreachable")
    assert store.unschedulable() == {"gpu1": "gpu1 is unreachable: silent for 4.5 s"}
    store.record_checks([check("degraded", "hot")])
    assert store.unschedulable() == {} and store.nodes()[0].status == "available"
    assert told(store) == [
        ("node_health", "info", "unknown -> healthy"),
        ("node_health", "error", "healthy -> unreachable: silent for 4.5 s"),
        ("node_health", "warning", "unreachable -> degraded: hot"),
    ]
    assert [row.state for row in store.health_history("gpu1")] == ["healthy"] * 3 + ["unreachable", "degraded"]
    assert store.latest_checks()["gpu1"].state == "degraded"


def test_what_was_seen_long_ago_keeps_no_job_away(store: Store) -> None:
    store.sync_node(Node("gpu1", "10.0.0.101"), GPUS, {})
    store.record_checks([check("unreachable", unusable={"GPU-0": "GPU 0 is used by eve"})])
    assert store.unschedulable() and store.unusable_gpus() == {"GPU-0": "GPU 0 is used by eve"}
    age(store, 1000)
    assert store.unschedulable() == {} and store.unusable_gpus() == {}
    store.drain("gpu1", "ob")
    age(store, 100_000)
    assert set(store.unschedulable()) == {"gpu1"}, "a drain stays"


def test_gpus_become_usable_again_and_those_that_are_gone_are_not(store: Store) -> None:
    store.sync_node(Node("gpu1", "10.0.0.101"), GPUS, {})
    store.record_checks([check("degraded", unusable={"GPU-0": "hot", "GPU-of-nobody": "odd"})])
    store.record_checks([check("degraded", unusable=None)])
    assert store.unusable_gpus() == {"GPU-0": "hot"}, "where the GPUs were not read, nothing is known anew"
    store.record_checks([check("healthy", unusable={})])
    assert store.unusable_gpus() == {}
    store.sync_node(Node("gpu1", "10.0.0.101"), GPUS[:1], {})
    assert store.unusable_gpus() == {"GPU-1": "GPU 1 of gpu1 is gone"}


def test_drains(store: Store) -> None:
    with pytest.raises(NotFoundError, match="never answered"):
        store.drain("gpu1", "ob")
    assert store.drain("gpu1", BY_HEALTH, "GPU 0 is lost", address="10.0.0.101")
    assert not store.drain("gpu1", BY_HEALTH, "GPU 1 is lost"), "drained already"
    assert store.drain("gpu1", "ob", "new fan"), "a person's word goes before"
    assert not store.drain("gpu1", BY_HEALTH, "GPU 0 is lost")
    assert store.unschedulable() == {"gpu1": "gpu1 is drained by ob: new fan"}
    (second,) = [event.at for event in store.events() if event.kind == "node_drain" and event.severity == "info"]
    assert store.drained_since() == {"gpu1": second}, "the word that counts"
    assert store.resume("gpu1", "ann") and not store.resume("gpu1", "ann")
    assert store.drained_since() == {}
    assert store.unschedulable() == {} and set(store.resumed_at()) == {"gpu1"}
    assert [event[:2] for event in told(store)] == [
        ("node_drain", "error"), ("node_drain", "info"), ("node_resume", "info")
    ]  # fmt: skip


def test_who_resumed_a_node_knew_why_it_was_drained_until_it_was_healthy_again(store: Store) -> None:
    store.record_checks([check("degraded")])
    store.drain("gpu1", BY_HEALTH, "GPU 0 is lost")
    assert store.overruled_drains("gpu1") == set()
    store.resume("gpu1", "ob")
    assert store.overruled_drains("gpu1") == {"GPU 0 is lost"}
    store.record_checks([check("healthy")])
    assert store.overruled_drains("gpu1") == set()


def test_history_has_an_end(store: Store) -> None:
    store.record_checks([check("healthy"), check("healthy")])
    age(store, 3 * 86400)
    store.record_checks([check("healthy")])
    assert store.forget_health(2) == 2
    assert len(store.health_history("gpu1")) == 1
    assert store.health_history("gpu1", since=now()) == []


def test_a_node_is_busy_while_a_job_holds_a_gpu_of_it(store: Store) -> None:
    from ugro_py.scheduler import Request, place

    store.sync_node(Node("gpu1", "10.0.0.101"), GPUS, {})
    store.create_job("one", "ob", {})
    store.start_attempt(
        "one", place(Request(gpus=1), ["gpu1"], GPUS, {}), master_addr="10.0.0.101", master_port=1, token="t"
    )
    assert store.busy_nodes() == {"gpu1"}


def test_a_node_is_busy_until_what_a_job_wrote_there_is_collected(store: Store) -> None:
    from ugro_py import late
    from ugro_py.plan import Gang
    from ugro_py.scheduler import Placement

    other = Gpu("GPU-other", "gpu2", 0, "cuda", "RTX", 12.0)
    store.sync_node(Node("gpu1", "10.0.0.101"), GPUS, {})
    store.sync_node(Node("gpu2", "10.0.0.102"), [other], {})
    store.create_job("one", "ob", {})
    gangs = []
    for number, gpu in enumerate((GPUS[0], other), 1):
        where = (Placement(0, gpu.node, 0, gpu),)
        store.start_attempt("one", where, master_addr="10.0.0.101", master_port=1, token="t")
        store.set_job("one", "running")
        gangs.append(Gang("one", number, where, "10.0.0.101", 1, "t"))
        if number == 1:  # it failed; the next attempt runs while this is collected
            store.set_attempt("one", 1, status="failed")
            late.note_collecting(store, gangs[0])
    assert store.busy_nodes() == {"gpu1", "gpu2"}
    late.note_collected(store, gangs[0])
    assert store.busy_nodes() == {"gpu2"}
    store.set_attempt("one", 2, status="completed")
    store.release("one")
    store.set_job("one", "collecting")
    assert store.busy_nodes() == {"gpu2"}
    store.set_job("one", "completed")
    assert store.busy_nodes() == set()
