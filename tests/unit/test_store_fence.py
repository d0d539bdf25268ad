# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Two controllers and one job: whoever lost it writes nothing of it any more."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from ugro_py.cluster import Node
from ugro_py.scheduler import Gpu, Placement
from ugro_py.state import Controller, Store
from ugro_py.state.fence import LostControlError

OLD = Controller("master", "boot-a", 100, 1)
NEW = Controller("standby", "boot-b", 200, 2, replaces=OLD)
GPU = Gpu("GPU-1", "gpu1", 0, "cuda", "RTX", 8.0)
PLAN = [Placement(0, "gpu1", 0, GPU)]


@pytest.fixture
def running(store: Store) -> Store:
    """A store with a job that OLD controls and that runs."""
    store.sync_node(Node("gpu1", "10.0.0.1"), [GPU], {})
    store.create_job("job", "ob", {})
    assert store.claim("job", OLD)
    mine = store.acting_as(OLD)
    mine.start_attempt("job", PLAN, master_addr="10.0.0.1", master_port=1, token="x")
    mine.set_job("job", "running")
    mine.set_rank("job", 1, 0, status="running", pid=5)
    return store


WRITES: dict[str, Callable[[Store], object]] = {
    "set_job": lambda store: store.set_job("job", "failed", "boom", 1),
    "set_waiting": lambda store: store.set_waiting("job", "its start was interrupted"),
    "release": lambda store: store.release("job"),
    "requeue": lambda store: store.requeue("job", "made room", preempted=True),
    "add_failure": lambda store: store.add_failure("job", 1, {"why": "x"}, "attempt 1: x"),
    "start_attempt": lambda store: store.start_attempt("job", [], master_addr="", master_port=1, token="y"),
    "set_attempt": lambda store: store.set_attempt("job", 1, status="failed"),
    "set_rank": lambda store: store.set_rank("job", 1, 0, status="lost"),
    "add_event": lambda store: store.add_event("node_lost", "gpu1: silent", job="job"),
    "check_control": lambda store: store.check_control("job"),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_who_lost_a_job_writes_nothing_of_it(running: Store, write: Callable[[Store], object]) -> None:
    old = running.acting_as(OLD)
    assert running.claim("job", NEW)
    before = (running.job("job"), running.attempt("job"), running.ranks("job"), running.busy(), running.events())
    with pytest.raises(LostControlError, match="process 200 on standby controls it"):
        write(old)
    assert before == (
        running.job("job"),
        running.attempt("job"),
        running.ranks("job"),
        running.busy(),
        running.events(),
    )
    write(running.acting_as(NEW))  # its successor may


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_the_same_process_number_of_another_boot_is_another_controller(
    running: Store, write: Callable[[Store], object]
) -> None:
    with pytest.raises(LostControlError):
        write(running.acting_as(replace(OLD, boot_id="boot-b")))
    with pytest.raises(LostControlError):
        write(running.acting_as(replace(OLD, start_ticks=7)))
    write(running.acting_as(OLD))


def test_what_anybody_may_ask_for_is_asked_by_a_controller_too(running: Store) -> None:
    running.create_job("other", "eva", {})
    mine = running.acting_as(OLD)
    assert mine.acting_as(OLD) is mine
    mine.request_stop("other")
    assert mine.hold("other", "ob")
    mine.set_node_status("gpu1", "drained", "by ob")
    mine.add_event("sweep", "of no job")
    assert not mine.request_preempt("other", "job")
    mine.unclaim("job", OLD)
    with pytest.raises(LostControlError, match="handed over"):
        mine.set_job("job", "failed")


def test_whose_lease_ran_out_writes_nothing_although_nobody_took_the_job_yet(running: Store) -> None:
    valid = True
    old = running.acting_as(OLD, lambda: valid)
    old.check_control("job")
    valid = False
    for write in WRITES.values():
        with pytest.raises(LostControlError, match="lease"):
            write(old)
    assert running.job("job").status == "running"


def test_an_agent_claims_nothing_once_its_lease_is_another_agents(running: Store) -> None:
    running.create_job("waits", "ob", {})
    lease = running.acquire_lease(OLD, 8.0)
    assert lease
    old = running.acting_as(OLD, lease=lease)
    second = running.acquire_lease(NEW, 8.0, expired=running.lease())
    assert second
    assert not old.claim("waits", OLD)
    assert running.acting_as(NEW, lease=second).claim("waits", NEW)
    running.give_back_lease(second)
    running.unclaim("waits", NEW)
    assert not running.acting_as(NEW, lease=second).claim("waits", NEW)


def test_a_write_comes_before_the_takeover_or_not_at_all(running: Store) -> None:
    """The old controller writes all the time; after the new one has claimed the job nothing of it arrives."""
    controllers = [replace(OLD, pid=100 + turn) for turn in range(12)]
    running.unclaim("job", OLD)
    assert running.claim("job", controllers[0])
    for old, new in pairwise(controllers):
        lost = threading.Event()
        wrote = threading.Event()

        def write_on(old: Controller = old, lost: threading.Event = lost, wrote: threading.Event = wrote) -> None:
            mine = running.acting_as(old)
            try:
                for number in range(100_000):
                    mine.set_job("job", "running", f"{old.pid}: {number}")
                    wrote.set()
            except LostControlError:
                lost.set()

        thread = threading.Thread(target=write_on)
        thread.start()
        assert wrote.wait(30)
        assert running.claim("job", replace(new, replaces=old))
        running.acting_as(new).set_job("job", "running", "new")
        thread.join(30)
        assert lost.is_set()
        assert running.job("job").reason == "new"
