"""Decisions of the scheduler: what holds of any, and what the documentation promises."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.queue_worlds import NOW, gpus_of, running, snapshots, waiting
from ugro_py.queue.decide import decide
from ugro_py.queue.model import BATCH, URGENT, Decision, Quota, Snapshot
from ugro_py.queue.order import ordered, shares
from ugro_py.scheduler import Request

CLUSTER = {"master": 1, "gpu1": 4, "gpu2": 2}


def world(*jobs: Any, held: Any = (), counts: dict[str, int] = CLUSTER, **values: Any) -> Snapshot:
    return Snapshot(NOW, tuple(counts), gpus_of(counts), jobs, tuple(held), **values)


def started(decision: Decision) -> dict[str, list[str]]:
    return {start.job: [placement.gpu.uuid for placement in start.placements] for start in decision.start}


@settings(max_examples=600, deadline=None)
@given(snapshots())
def test_what_holds_of_any_decision(snapshot: Snapshot) -> None:
    decision = decide(snapshot)
    begun = started(decision)
    jobs = {job.job: job for job in snapshot.waiting}
    # Every job of the queue starts, waits for a reason, or both fails and says why; nothing else happens.
    assert sorted(decision.order) == sorted(jobs)
    assert begun.keys() | decision.reasons.keys() == jobs.keys()
    assert not begun.keys() & decision.reasons.keys()
    assert all(reason and "\n" not in reason for reason in decision.reasons.values())
    # No GPU twice, none that is held, unusable, or on a node that takes no jobs.
    used = [uuid for gpus in begun.values() for uuid in gpus]
    held = {uuid for job in snapshot.running for uuid in job.gpus}
    assert len(used) == len(set(used))
    assert not held & set(used)
    assert not snapshot.unusable.keys() & set(used)
    nodes = {placement.node for start in decision.start for placement in start.placements}
    assert not nodes & snapshot.unschedulable.keys()
    for name, gpus in begun.items():
        job = jobs[name]
        # Gangs are whole.
        assert job.request.gpus in (None, len(gpus)) and gpus
        placements = next(start.placements for start in decision.start if start.job == name)
        assert job.request.nodes in (None, len({placement.node for placement in placements}))
        assert len({placement.gpu.kind for placement in placements}) == 1
        assert [placement.rank for placement in placements] == list(range(len(placements)))
        # Nobody starts who may not.
        assert job.held_by is None and not job.blocked
        assert all(snapshot.ended.get(before) == "completed" for before in job.after)
    # Quotas are kept.
    for (kind, name), quota in snapshot.quotas.items():
        mine = [job for job in begun if name == (jobs[job].user if kind == "user" else jobs[job].group)]
        if mine and quota.max_gpus is not None:
            before = [job for job in snapshot.running if name == (job.user if kind == "user" else job.group)]
            assert sum(len(begun[job]) for job in mine) + sum(len(job.gpus) for job in before) <= quota.max_gpus
        if mine and quota.gpu_hours_week is not None:
            assert quota.used_hours < quota.gpu_hours_week
    # Only batch jobs make room, only for urgent ones, only where that is wanted, and only once.
    runs = {job.job: job for job in snapshot.running}
    for preempt in decision.preempt:
        assert snapshot.preemption
        assert runs[preempt.job].priority <= BATCH and not runs[preempt.job].stopping
        assert jobs[preempt.for_job].priority >= URGENT and preempt.for_job in decision.reasons
    assert len({preempt.job for preempt in decision.preempt}) == len(decision.preempt)
    assert all(snapshot.ended[name] != "completed" for fail in decision.fail for name in jobs[fail.job].after[:1])
    # The same snapshot, the same decision, in whatever order things come.
    shuffled = replace(
        snapshot, waiting=snapshot.waiting[::-1], running=snapshot.running[::-1], gpus=snapshot.gpus[::-1]
    )
    assert decide(shuffled) == decision


@settings(max_examples=300, deadline=None)
@given(snapshots())
def test_without_others_ahead_whoever_fits_starts(snapshot: Snapshot) -> None:
    """The first in line that may start at all starts if it can be placed: nothing waits for no reason."""
    free = replace(snapshot, quotas={}, running=(), preemption=False)
    decision = decide(free)
    for name in decision.order:
        job = next(job for job in free.waiting if job.job == name)
        alone = decide(replace(free, waiting=(job,)))
        if alone.start:
            assert decision.start and decision.start[0].job == name
            return
    assert not decision.start


def without_backfill(snapshot: Snapshot) -> Decision:
    """Strictly one after the other: only the first in line may start. Who could never start is no one to wait for."""
    can = tuple(job for job in snapshot.waiting if decide(replace(snapshot, waiting=(job,), running=())).start)
    begun, now = [], replace(snapshot, waiting=can)
    while now.waiting:
        first = ordered(now)[0]
        decision = decide(replace(now, waiting=(first,)))
        if not decision.start:
            break
        begun += decision.start
        ends = None if first.time_limit_s is None else now.now + first.time_limit_s
        gpus = tuple(placement.gpu.uuid for placement in decision.start[0].placements)
        holds = running(first.job, *gpus, ends_at=ends, since=now.now)
        now = replace(now, waiting=tuple(j for j in now.waiting if j.job != first.job), running=(*now.running, holds))
    return Decision(tuple(begun))


def first_starts(snapshot: Snapshot, lasts: dict[str, float], head: str, choose: Any) -> float:
    """Play on until `head` starts: jobs run for as long as `lasts` says; return when."""
    now = snapshot
    for _ in range(100):
        decision = choose(now)
        if head in started(decision):
            return now.now
        limits = {job.job: job.time_limit_s for job in now.waiting}
        begun = started(decision)
        holders = [
            *now.running,
            *(
                running(job, *gpus, since=now.now, ends_at=None if limits[job] is None else now.now + limits[job])
                for job, gpus in begun.items()
            ),
        ]
        lasts = {**lasts, **{job: now.now + lasts[job] - NOW for job in begun}}
        if not holders:
            break
        at = min(lasts[job.job] for job in holders)
        now = replace(
            now,
            now=at,
            waiting=tuple(job for job in now.waiting if job.job not in begun),
            running=tuple(job for job in holders if lasts[job.job] > at),
        )
    raise AssertionError("never")


@st.composite
def lines(draw: st.DrawFn) -> tuple[Snapshot, dict[str, float]]:
    """A busy cluster and a line of jobs; how long each really takes: up to its limit, without one whatever."""
    counts = draw(st.dictionaries(st.sampled_from("abcd"), st.integers(1, 4), min_size=1, max_size=4))
    gpus = gpus_of(counts)
    left = list(gpus)
    held, lasts = [], {}
    for number in range(draw(st.integers(1, 5))):
        mine, left = left[: (size := draw(st.integers(1, 3)))], left[size:]
        if not mine:
            break
        limit = draw(st.sampled_from([None, 100.0, 200.0, 300.0, 500.0]))
        held.append(running(f"run{number}", *(g.uuid for g in mine), ends_at=None if limit is None else NOW + limit))
        lasts[f"run{number}"] = NOW + (limit or draw(st.sampled_from([50.0, 150.0, 250.0, 700.0])))
    jobs = []
    for number in range(draw(st.integers(2, 7))):
        limit = draw(st.sampled_from([None, 50.0, 100.0, 200.0, 400.0]))
        wanted = draw(st.integers(1, len(gpus)))
        on = draw(st.sampled_from([None, None, 1, 2]))
        request = Request(on if on and on <= min(wanted, len(counts)) else None, wanted)
        jobs.append(waiting(f"job{number}", request=request, submitted_at=NOW - 100 + number, time_limit_s=limit))
        lasts[f"job{number}"] = NOW + (limit or draw(st.sampled_from([30.0, 130.0, 900.0])))
    snapshot = Snapshot(NOW, tuple(counts), gpus, tuple(jobs), tuple(held))
    return snapshot, lasts


@settings(max_examples=600, deadline=None)
@given(lines())
def test_backfill_never_delays_the_first_in_line(line: tuple[Snapshot, dict[str, float]]) -> None:
    """Whenever jobs without a limit end, and with those that have one running to it."""
    snapshot, lasts = line
    decision = decide(snapshot)
    heads = [job for job in decision.order if "waits for" in decision.reasons.get(job, "")]
    if not heads:
        return
    head = heads[0]
    with_it = first_starts(snapshot, lasts, head, decide)
    without = first_starts(snapshot, lasts, head, without_backfill)
    assert with_it <= without
    if head in decision.expected:
        assert with_it <= decision.expected[head]


@settings(max_examples=400, deadline=None)
@given(lines(), st.randoms(use_true_random=False))
def test_a_promised_start_is_kept_when_jobs_end_early(
    line: tuple[Snapshot, dict[str, float]], rng: random.Random
) -> None:
    snapshot, lasts = line
    decision = decide(snapshot)
    early = {job: NOW + (end - NOW) * rng.uniform(0.1, 1.0) for job, end in lasts.items()}
    for head, promised in decision.expected.items():
        assert first_starts(snapshot, early, head, decide) <= promised + 1e-6


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
