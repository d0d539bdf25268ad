# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Gangs in step as they lie in the central store, for tests of what says which rank they wait for."""

from __future__ import annotations

from pathlib import Path

from tests.unit.job_store import JOB, NODES, JobStore
from ugro_py import stragglers
from ugro_py.cluster import Cluster, Node
from ugro_py.plan import Gang
from ugro_py.saved import save_gang
from ugro_py.scheduler import Gpu, Placement

STEPS = 20
TRANSFER_S = 0.02
CARDS = ("NVIDIA GeForce RTX 3090",) * 3


def train(
    jobs: JobStore,
    compute: tuple[float, ...],
    data: tuple[float, ...] = (0.0, 0.0, 0.0),
    cores: tuple[float, ...] = (1.0, 1.0, 1.0),
    transfer: float = TRANSFER_S,
) -> int:
    """A gang in step: who is done early waits for who comes last, then the gradients travel."""
    attempt = jobs.attempt()
    own = [work + load for work, load in zip(compute, data, strict=True)]
    for step in range(1, STEPS + 1):
        for rank in range(3):
            jobs.step(
                attempt, rank, step, 3.0,
                step_time_s=max(own) + transfer, wait_time_s=max(own) - own[rank] + transfer, data_time_s=data[rank],
                cpu_time_s=cores[rank] * own[rank], **({"gradient_bytes": 4_000_000} if step == 1 else {}),
            )  # fmt: skip
    return attempt


def on_gpus(attempt: int, cards: tuple[str, ...] = CARDS) -> None:
    """Keep the gang as the engine does: each rank has a GPU of its own."""
    places = tuple(
        Placement(rank, name, 0, Gpu(f"GPU-{rank}", name, 0, "cuda", cards[rank], 24.0))
        for rank, name in enumerate(NODES)
    )
    cluster = Cluster("c", tuple(Node(name, f"10.0.0.{index}") for index, name in enumerate(NODES)), Path("hosts.yml"))
    save_gang(Gang(JOB, attempt, places, "10.0.0.0", 29500, "t0k3n"), cluster)


def sample(jobs: JobStore, attempt: int, rank: int, cpu: float = 20.0, **gpu: object) -> None:
    for t in range(1001, 1001 + STEPS):
        gpus = [{"uuid": f"GPU-{rank}", **gpu}] if gpu else []
        jobs.event(attempt, NODES[rank], t, "sample", cpu_percent=cpu, mem_used_gb=4.0, gpus=gpus)


def report(jobs: JobStore) -> stragglers.Report:
    jobs.end()
    return stragglers.report(JOB, jobs.store)
