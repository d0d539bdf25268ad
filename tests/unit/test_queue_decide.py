"""Decisions of the scheduler: what the documentation promises."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.queue_worlds import NOW, gpus_of, running, waiting
from ugro_py.queue.decide import decide
from ugro_py.queue.model import Decision, Quota, Snapshot
from ugro_py.queue.order import shares
from ugro_py.scheduler import Request

CLUSTER = {"master": 1, "gpu1": 4, "gpu2": 2}


def world(*jobs: Any, held: Any = (), counts: dict[str, int] = CLUSTER, **values: Any) -> Snapshot:
    return Snapshot(NOW, tuple(counts), gpus_of(counts), jobs, tuple(held), **values)


def started(decision: Decision) -> dict[str, list[str]]:
    return {start.job: [placement.gpu.uuid for placement in start.placements] for start in decision.start}


def test_nothing_waits_nothing_happens() -> None:
    assert decide(world()) == Decision()


def test_first_come_first_served() -> None:
    jobs = [waiting(f"job{n}", 2, submitted_at=NOW - n) for n in range(5)]
    assert list(started(decide(world(*jobs)))) == ["job4", "job3", "job2"]


def test_priority_then_use_then_age() -> None:
    jobs = [
        waiting("batch", 7, priority=10),
        waiting("old", 7, submitted_at=NOW - 3000),
        waiting("of-a-heavy-user", 7, submitted_at=NOW - 9000, user="eva"),
        waiting("urgent", 7, priority=90, submitted_at=NOW),
    ]
    assert decide(world(*jobs, usage={"eva": 5e5, "ob": 1e3})).order == ("urgent", "old", "of-a-heavy-user", "batch")


def test_use_counts_half_of_its_fair_part() -> None:
    assert shares({"a": 300.0, "b": 100.0}, ["a", "b", "c"]) == pytest.approx(
        {"a": 10 * 2**-2.25, "b": 10 * 2**-0.75, "c": 10.0}
    )
    assert shares({}, ["a"]) == {"a": 10.0}


@pytest.mark.parametrize("newer", [10, 50, 90, 100])
def test_no_stream_of_jobs_starves_another(newer: int) -> None:
    """A batch job that waits is passed by no job of priority P asked for more than (P - 10 + 10) / 20 days later."""
    days = (newer - 10 + 10) / 20 + 0.01
    old = waiting("old", 7, priority=10, submitted_at=NOW - days * 86400, user="eva")
    stream = [waiting(f"new{n}", 7, priority=newer, submitted_at=NOW - n) for n in range(50)]
    assert decide(world(old, *stream, usage={"eva": 1e9})).order[0] == "old"


def test_reasons_say_who_uses_what() -> None:
    held = [
        running("x", "GPU-gpu1-0", "GPU-gpu1-1", "GPU-gpu1-2", ends_at=NOW + 600),
        running("y", "GPU-gpu1-3", "GPU-master-0"),
    ]
    decision = decide(
        world(
            waiting("a", 6),
            waiting("b", 2, priority=20),
            waiting("c", 99),
            waiting("d", request=Request(gpus=1, include={"nope": None})),
            held=held,
            unusable={"GPU-gpu2-0": "gpu2:0 is used by process 4711 of ollie"},
        )
    )
    until = time.strftime("%H:%M", time.localtime(NOW + 600))
    assert decision.reasons["a"] == (
        f"waits for 6 GPUs: master:0 is used by job y, gpu1:0,1,2 is used by job x (until {until} at the latest), "
        "gpu1:3 is used by job y, gpu2:0 is used by process 4711 of ollie"
    )
    assert decision.reasons["b"] == "behind job a (priority 50)"
    assert decision.reasons["c"] == "cannot start: asks for 99 GPUs; it may use 7 GPUs"
    assert decision.reasons["d"] == "cannot start: there is no node nope"


def test_who_waits_for_a_drained_node_holds_up_nobody() -> None:
    decision = decide(
        world(
            waiting("a", 7, priority=90),
            waiting("b", 5),
            unschedulable={"gpu2": "gpu2 is drained by ob: new fan"},
        )
    )
    assert list(started(decision)) == ["b"]
    assert decision.reasons["a"] == "waits for 7 GPUs: gpu2 is drained by ob: new fan"


def test_who_waits_for_other_gpus_gets_its_own_reservation() -> None:
    """The first for gpu1 and the first for gpu2: small jobs take nothing from either."""
    held = [running("x", "GPU-gpu1-0"), running("y", "GPU-gpu2-0", ends_at=NOW + 100)]
    decision = decide(
        world(
            waiting("on-gpu1", request=Request(gpus=4, include={"gpu1": None}), priority=60),
            waiting("on-gpu2", request=Request(gpus=2, include={"gpu2": None}), priority=55),
            waiting("small", 1),
            waiting("next", 1),
            waiting("short", 1, time_limit_s=60.0),
            held=held,
        )
    )
    assert started(decision) == {"next": ["GPU-master-0"], "short": ["GPU-gpu2-1"]}
    assert decision.reasons["small"] == "behind job on-gpu1 (priority 60), which the free GPUs are kept for"
    assert decision.expected == {"on-gpu2": NOW + 100}


def test_quotas_keep_a_large_job_its_turn() -> None:
    """Small jobs under the same quota do not pass a larger one that waits for it; those of others do."""
    decision = decide(
        world(
            waiting("large", 3, submitted_at=NOW - 9),
            waiting("small", 1, submitted_at=NOW - 8),
            waiting("too-large", 5, submitted_at=NOW - 10),
            waiting("other", 1, user="eva"),
            held=[running("x", "GPU-gpu1-0", "GPU-gpu1-1")],
            quotas={("user", "ob"): Quota(max_gpus=4)},
        )
    )
    assert list(started(decision)) == ["other"]
    assert decision.reasons == {
        "large": "quota: ob uses 2 of 4 GPUs, 3 asked",
        "small": "quota: ob uses 2 of 4 GPUs, 3 asked, and job large is before it",
        "too-large": "quota: ob may use 4 GPUs at once, the job asks for 5",
    }


def test_who_asks_for_all_gets_what_the_quota_leaves() -> None:
    decision = decide(world(waiting("all", None), quotas={("user", "ob"): Quota(max_gpus=3)}))
    assert len(started(decision)["all"]) == 3


def test_a_reservation_counts_for_the_quota() -> None:
    decision = decide(
        world(
            waiting("first", request=Request(gpus=4, include={"gpu1": None}), priority=60),
            waiting("second", request=Request(gpus=1, include={"gpu2": None})),
            held=[running("x", "GPU-gpu1-0", user="eva")],
            quotas={("user", "ob"): Quota(max_gpus=4)},
        )
    )
    assert not decision.start
    assert decision.reasons["second"] == "quota: ob uses 0 of 4 GPUs, 1 asked, and job first is before it"


def test_preemption_stops_the_youngest_and_no_more_than_needed() -> None:
    held = [
        running("old", "GPU-gpu1-0", "GPU-gpu1-1", priority=10, since=NOW - 900),
        running("young", "GPU-gpu1-2", priority=10, since=NOW - 10),
        running("younger", "GPU-master-0", priority=10, since=NOW - 5),
        running("normal", "GPU-gpu1-3", "GPU-gpu2-0", "GPU-gpu2-1", since=NOW - 1),
    ]
    ask = world(waiting("a", 2, priority=90), held=held, preemption=True)
    assert [p.job for p in decide(ask).preempt] == ["younger", "young"]
    one_node = replace(ask, waiting=(waiting("a", 2, nodes=1, priority=90),))
    assert [p.job for p in decide(one_node).preempt] == ["old"] or len(decide(one_node).preempt) == 1
    assert decide(replace(ask, preemption=False)).preempt == ()
    assert decide(replace(ask, waiting=(waiting("a", 2, priority=89),))).preempt == ()
    assert decide(replace(ask, waiting=(waiting("a", 5, priority=90),))).preempt == ()  # would not do
    stopping = [replace(job, stopping=job.job == "old") for job in held]
    assert decide(replace(ask, running=tuple(stopping))).preempt == ()  # makes room already


def test_cpu_slots_are_for_clusters_without_gpus() -> None:
    from ugro_py.scheduler import Gpu

    cpus = tuple(Gpu(f"CPU-c-{n}", "c", n, "cpu", "CPU", None) for n in range(4))
    mixed = Snapshot(NOW, ("c", "g"), (*cpus, *gpus_of({"g": 1})), (waiting("a", 2), waiting("b", 1)))
    decision = decide(mixed)
    assert started(decision) == {"b": ["GPU-g-0"]}
    named = waiting("a", request=Request(gpus=2, include={"c": None}))
    assert started(decide(replace(mixed, waiting=(named,)))) == {"a": ["CPU-c-0", "CPU-c-1"]}
