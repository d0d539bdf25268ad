# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Drains of the health sweep: they end by themselves where that is safe, else by a person's word alone."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from ugro_py.cluster import Node
from ugro_py.compare import Finding
from ugro_py.health import catalog, states
from ugro_py.health.drains import drain_for, lift_where_well
from ugro_py.scheduler import Gpu
from ugro_py.state import Store, models
from ugro_py.state._base import now
from ugro_py.state._drains import BY_HEALTH
from ugro_py.state._health import Check

MISMATCH = Finding(
    "gpu1", "gpu_driver", "critical", "driver and library do not fit", "reboot gpu1", "driver_library_mismatch"
)
LOST = Finding("gpu1", "gpu_lost", "critical", "GPU 0 (GPU-0) is not there any more", "reboot gpu1", 0)
XID = Finding("gpu1", "gpu_xid", "critical", "Xid 79", "reboot gpu1", "79@0000:01:00")


@pytest.mark.parametrize(
    ("checks", "well"),
    [
        ([], False),
        ([(0, True), (60, True)], False),
        ([(0, True), (60, True), (120, True)], True),
        ([(0, True), (1, True), (2, True), (3, True)], False),
        ([(0, True), (60, True), (90, False), (120, True)], False),
        ([(0, True), (60, True), (90, False), (120, True), (180, True), (239, True)], False),
        ([(0, False), (120, True), (180, True), (240, True)], True),
        ([(0, True), (60, True), (120, True), (121, False)], False),
        ([(0, True), (300, True), (600, True)], True),
    ],
)
def test_three_clean_checks_in_a_row_over_two_minutes(checks: list[tuple[float, bool]], well: bool) -> None:
    assert states.healed(checks) is well


def test_only_a_card_that_failed_needs_a_persons_word() -> None:
    assert {check for check in catalog.CHECKS if catalog.lasts(check)} == {"gpu_xid"}


def checked(store: Store, ages_s: list[int], *found: Finding, state: str = "healthy") -> list[str]:
    """Record what checks found, the last one being `ages_s[-1]` seconds old; return what was lifted then."""
    findings = [{"check": item.check, "severity": item.severity, "value": item.value} for item in found]
    for age_s in ages_s:
        store.record_checks([Check("gpu1", "10.0.0.1", state, findings=findings)])
        with store.database.write() as connection:
            table = models.health_checks
            newest = select(func.max(table.c.id)).scalar_subquery()
            at = now() - timedelta(seconds=age_s)
            connection.execute(update(table).where(table.c.id == newest).values(at=at))
    return lift_where_well(store, ["gpu1"])


def drained(store: Store, finding: Finding) -> bool:
    """Let the sweep have found something 1000 seconds ago; return whether that drained the node."""
    was = drain_for(store, finding)
    with store.database.write() as connection:
        kind = models.events.c.kind == "node_drain"
        connection.execute(update(models.events).where(kind).values(at=now() - timedelta(seconds=1000)))
    return was


@pytest.fixture
def known(store: Store) -> Store:
    store.sync_node(Node("gpu1", "10.0.0.1"), [Gpu("GPU-0", "gpu1", 0, "cuda", "RTX", 8.0)], {})
    return store


def test_a_node_that_is_well_again_gets_jobs_again(known: Store) -> None:
    assert drained(known, MISMATCH)
    assert checked(known, [900, 800], MISMATCH, state="degraded") == []
    assert checked(known, [700], state="unreachable") == [], "it reboots"
    assert checked(known, [200, 100]) == [] and known.unschedulable()
    assert checked(known, [0]) == ["gpu1"]
    assert known.unschedulable() == {}
    assert known.events()[-1].text == "resumed by health: it has been well since"
    assert known.resumed_at() == {}, "nobody has said that earlier Xid errors do not count"


def test_another_node_than_the_one_that_was_checked_is_left_alone(known: Store) -> None:
    drained(known, MISMATCH)
    checked(known, [300, 200])
    known.record_checks([Check("gpu1", "10.0.0.1", "healthy")])
    assert lift_where_well(known, ["gpu2"]) == [] and lift_where_well(known, ["gpu1"]) == ["gpu1"]


@pytest.mark.parametrize("later", [XID, LOST])
def test_an_xid_stays_until_a_person_resumes_the_node_whatever_came_first(known: Store, later: Finding) -> None:
    drained(known, MISMATCH)
    assert drained(known, later) is (later is XID), "what lasts takes the place of what does not"
    assert bool(checked(known, [300, 200, 0])) is (later is LOST)
    if later is XID:
        assert known.unschedulable() == {"gpu1": "gpu1 is drained by health: Xid 79"}
        assert known.resume("gpu1", "ob") and known.unschedulable() == {}


def test_what_a_person_drained_only_a_person_resumes(known: Store) -> None:
    drained(known, MISMATCH)
    known.drain("gpu1", "ob", "new fan")
    assert checked(known, [300, 200, 0]) == []
    assert known.unschedulable() == {"gpu1": "gpu1 is drained by ob: new fan"}


def test_a_gpu_that_is_still_gone_keeps_the_drain(known: Store) -> None:
    """An agent that was restarted meanwhile does not remember it, so its checks are clean."""
    drained(known, LOST)
    known.sync_node(Node("gpu1", "10.0.0.1"), [], {})
    assert checked(known, [300, 200, 0]) == []
    known.sync_node(Node("gpu1", "10.0.0.1"), [Gpu("GPU-0", "gpu1", 0, "cuda", "RTX", 8.0)], {})
    assert checked(known, [0]) == ["gpu1"]


def test_the_second_time_on_a_day_it_stays_drained(known: Store) -> None:
    drained(known, LOST)
    assert checked(known, [300, 200, 0]) == ["gpu1"]
    assert drain_for(known, LOST), "nobody has overruled that"
    assert known.nodes()[0].drain_lasts and known.liftable() == {}
    assert checked(known, [300, 200, 0]) == []
    assert known.resume("gpu1", "ob")


def test_a_drain_of_health_is_no_reason_to_forget_a_persons_word(known: Store) -> None:
    known.record_checks([Check("gpu1", "10.0.0.1", "degraded")])
    drain_for(known, LOST)
    known.resume("gpu1", "ob")
    assert not drain_for(known, LOST), "whoever resumed it knew"
    assert known.nodes()[0].drained_by != BY_HEALTH
