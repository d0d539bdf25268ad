"""One decision of the scheduler: 10,000 queued jobs on 1,000 nodes of 2 to 8 GPUs; it must stay below 0.1 s.

The cluster is as full as a busy one is: 2 % of the GPUs are free, and jobs wait for them that name nodes and sizes each
in their way. By hand is the least that any scheduler does: put 10,000 jobs in order.
"""

from __future__ import annotations

import random
import time

from benchmarks.bed import Bed
from benchmarks.measure import Result, paired
from ugro_py.queue.decide import decide
from ugro_py.queue.model import Quota, Running, Snapshot, Waiting
from ugro_py.scheduler import Gpu, Request

NAME = "scheduler_decision"
LIMIT_S = 0.1
NOW = 1_800_000_000.0
USERS = [f"user{number}" for number in range(20)]


def measure(_bed: Bed | None, n: int = 15) -> Result:
    """Measure `n` pairs."""
    snapshot = crowded()
    keys = [(-job.priority, job.submitted_at, job.job) for job in snapshot.waiting]

    def ours(_number: int) -> float:
        begun = time.perf_counter()
        decide(snapshot)
        return time.perf_counter() - begun

    def hand(_number: int) -> float:
        begun = time.perf_counter()
        sorted(keys)
        return time.perf_counter() - begun

    times, floor = paired(n, ours, hand)
    # The limit is one of seconds; as a ratio it depends on how fast this machine sorts.
    return Result(NAME, "s", times, floor, limit=LIMIT_S / sorted(floor)[len(floor) // 2])


def crowded(jobs: int = 10_000, nodes: int = 1_000, busy: float = 0.98, seed: int = 1) -> Snapshot:
    """Return a full cluster and its queue, always the same."""
    rng = random.Random(seed)
    names = tuple(f"node{number}" for number in range(nodes))
    gpus = []
    for name in names:
        size = rng.choice([8.0, 24.0, 80.0])
        gpus += [Gpu(f"GPU-{name}-{i}", name, i, "cuda", "GPU", size) for i in range(rng.choice([2, 4, 8]))]
    waiting = tuple(
        Waiting(
            f"job{number}", rng.choice(USERS), rng.choice([10, 50, 50, 50, 90]), _request(rng, names),
            NOW - rng.randrange(1_000_000), held_by="admin" if rng.random() < 0.02 else None,
            after=("job1",) if rng.random() < 0.02 else (), time_limit_s=rng.choice([None, 3600.0, 7200.0, 36000.0]),
        )
        for number in range(jobs)
    )  # fmt: skip
    return Snapshot(
        NOW, names, tuple(gpus), waiting, _running(rng, gpus, busy),
        unschedulable={names[5]: f"{names[5]} is drained"}, usage={user: rng.random() * 1e6 for user in USERS},
        quotas={("user", user): Quota(max_gpus=2000) for user in USERS[:10]},
    )  # fmt: skip


def _request(rng: random.Random, names: tuple[str, ...]) -> Request:
    """Most want some GPUs wherever they are; some name sizes or nodes."""
    gpus = rng.choice([1, 1, 1, 2, 2, 4, 8, 16, 64])
    kind = rng.random()
    if kind < 0.1:
        return Request(gpus=gpus, min_vram_gb=24.0)
    if kind < 0.12:
        return Request(gpus=gpus, exclude={rng.choice(names): None})
    if kind < 0.14:
        return Request(gpus=gpus, include=dict.fromkeys(rng.sample(names, 3)))
    return Request(nodes=2, gpus=max(2, gpus)) if kind < 0.2 else Request(gpus=gpus)


def _running(rng: random.Random, gpus: list[Gpu], busy: float) -> tuple[Running, ...]:
    held = [gpu.uuid for gpu in gpus]
    rng.shuffle(held)
    del held[int(len(held) * busy) :]
    jobs = []
    while held:
        size = rng.choice([1, 1, 2, 4, 8, 16])
        mine, held = tuple(held[:size]), held[size:]
        ends = NOW + rng.randrange(100_000) if rng.random() < 0.7 else None
        jobs.append(Running(f"run{len(jobs)}", rng.choice(USERS), 50, mine, NOW - rng.randrange(10_000), ends_at=ends))
    return tuple(jobs)
