"""What holds of any decision of the scheduler, whatever the cluster and the queue."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.queue_worlds import NOW, gpus_of, running, snapshots, waiting
from ugro_py.queue.decide import decide
from ugro_py.queue.model import BATCH, URGENT, Decision, Snapshot
from ugro_py.queue.order import ordered
from ugro_py.scheduler import Request


def started(decision: Decision) -> dict[str, list[str]]:
    """Who starts, on which GPUs."""
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
