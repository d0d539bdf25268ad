"""Ten thousand jobs on a thousand nodes, played to the end with the real scheduler."""

from __future__ import annotations

import heapq
import random
from dataclasses import replace

import pytest

from tests.unit.queue_worlds import NOW, gpus_of, waiting
from ugro_py.queue.decide import decide
from ugro_py.queue.model import Running, Snapshot, Waiting


def played(jobs: list[Waiting], counts: dict[str, int], step_s: float, seed: int) -> tuple[dict[str, float], float]:
    """Play the queue to its end, deciding every `step_s` seconds; return each job's start and the part of GPUs used.

    A job without a limit lasts for an hour, others for any part of their limit. Usage is counted without decay.
    """
    rng = random.Random(seed)
    names, gpus = tuple(counts), gpus_of(counts)
    ahead = sorted(jobs, key=lambda job: (job.submitted_at, job.job))
    line: dict[str, Waiting] = {}
    running: dict[str, Running] = {}
    ends: list[tuple[float, str]] = []
    starts: dict[str, float] = {}
    usage: dict[str, float] = {}
    now, used, number = NOW, 0.0, 0
    while number < len(ahead) or line or running:
        while number < len(ahead) and ahead[number].submitted_at <= now:
            line[ahead[number].job] = ahead[number]
            number += 1
        while ends and ends[0][0] <= now:
            del running[heapq.heappop(ends)[1]]
        snapshot = Snapshot(now, names, gpus, tuple(line.values()), tuple(running.values()), usage=dict(usage))
        held = {uuid for job in running.values() for uuid in job.gpus}
        decision = decide(snapshot)
        for start in decision.start:
            job = line.pop(start.job)
            mine = tuple(placement.gpu.uuid for placement in start.placements)
            assert not held & set(mine)
            held |= set(mine)
            lasts = 3600.0 if job.time_limit_s is None else job.time_limit_s * rng.uniform(0.3, 1.0)
            limit = None if job.time_limit_s is None else now + job.time_limit_s
            running[job.job] = Running(job.job, job.user, job.priority, mine, now, ends_at=limit)
            heapq.heappush(ends, (now + lasts, job.job))
            starts[job.job] = now
            usage[job.user] = usage.get(job.user, 0.0) + lasts * len(mine)
            used += lasts * len(mine)
        now += step_s
        assert now < NOW + 60 * 86400, f"{len(line)} jobs never start"
    return starts, used / (len(gpus) * (now - NOW))


@pytest.mark.slow
def test_a_thousand_nodes_and_ten_thousand_jobs() -> None:
    rng = random.Random(7)
    counts = {f"n{number}": rng.choice([2, 4, 8]) for number in range(1000)}
    jobs = [
        waiting(
            f"job{number}", rng.choice([1, 1, 2, 4, 8, 16, 64]), user=rng.choice(["ob", "eva", "ollie"]),
            priority=rng.choice([10, 50, 50, 50, 90]), submitted_at=NOW - rng.randrange(3600),
            time_limit_s=rng.choice([None, 3600.0, 7200.0, 14400.0]),
        )
        for number in range(10_000)
    ]  # fmt: skip
    starts, part = played(jobs, counts, 600.0, 1)
    assert len(starts) == len(jobs)
    assert part > 0.7, f"{part:.2f} of the GPUs' time was used"
    waits = {p: sorted(starts[j.job] - j.submitted_at for j in jobs if j.priority == p) for p in (10, 50, 90)}
    middle = {priority: times[len(times) // 2] for priority, times in waits.items()}
    assert middle[90] < middle[50] < middle[10]


def test_a_user_with_a_thousand_jobs_does_not_shut_out_another() -> None:
    counts = {"a": 4, "b": 4}
    many = [waiting(f"many{n}", 1, user="eva", submitted_at=NOW - 1000 + n) for n in range(200)]
    few = [waiting(f"few{n}", 1, user="ob", submitted_at=NOW + 3700 + n) for n in range(8)]
    starts, part = played(many + few, counts, 60.0, 1)
    # All came after all 200 and yet start as soon as GPUs are free again.
    assert max(starts[job.job] for job in few) <= NOW + 3 * 3700
    assert part > 0.9


def test_a_wide_batch_job_is_not_starved_by_a_stream_of_small_ones() -> None:
    counts = {"a": 4, "b": 4}
    wide = waiting("wide", 8, user="ob", priority=10, submitted_at=NOW)
    stream = [waiting(f"s{n}", 1, user="eva", submitted_at=NOW + n * 400, time_limit_s=3600.0) for n in range(900)]
    starts, _ = played([replace(wide), *stream], counts, 400.0, 1)
    assert starts["wide"] <= NOW + (50 - 10 + 10) / 20 * 86400 + 7200
