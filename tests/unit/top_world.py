# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A cluster for tests of `ugro top`: three nodes, a job that runs on all of them, one that waits, one that ended."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.job_store import JOB, NODES, JobStore, job_store
from ugro_py import metrics
from ugro_py.cluster import Node
from ugro_py.scheduler import Gpu
from ugro_py.state import Controller

__all__ = ["JOB", "NODES", "World", "job_store", "world"]

HOSTILE = "waits for \x1b[31m2 GPUs\x1b]0;title\x07 [red]markup[/red] [@click=app.quit()]\r\nover"
STEPS = 120


class World:
    """What is in the store, and the inventory that describes it."""

    def __init__(self, store: JobStore, folder: Path) -> None:
        self.jobs, self.store, self.paths = store, store.store, store.paths
        hosts = "".join(f"    {name}: {{ansible_host: 10.0.0.{index}}}\n" for index, name in enumerate(NODES))
        self.inventory = folder / "hosts.yml"
        self.inventory.write_text(
            f"ugro_nodes:\n  vars: {{ugro_cluster_name: lab}}\n  hosts:\n{hosts}".replace(
                "10.0.0.0}", "10.0.0.0, ugro_role: master}"
            )
        )
        # The first node has a card beside its CPU slot.
        card = Gpu("GPU-1", NODES[0], 0, "cuda", "NVIDIA GeForce RTX 4090", 24.0)
        self.store.sync_node(Node(NODES[0], "10.0.0.0"), [card], {})
        self.attempt = store.attempt()
        for step in range(STEPS):
            self.step(step)
        self.sample()
        metrics.rebuild(self.paths)
        self.store.create_job("waits", "ann", {"script": "x.py"})
        self.store.claim("waits", Controller.me())  # one without a controller is soon taken over
        self.store.set_job("waits", "pending", HOSTILE)
        self.store.create_job("done", "ob", {})
        self.store.set_job("done", "completed", "", 0)

    def step(self, step: int, loss: float | None = None) -> None:
        """Add a step of all ranks; `metrics.rebuild` writes it where it is read."""
        for rank in range(3):
            self.jobs.step(
                self.attempt, rank, step, 5 * 0.99**step if loss is None else loss, total_steps=1000,
                throughput_tokens_sec=100 + rank, learning_rate=0.01, gpu_util=50,
            )  # fmt: skip

    def sample(self) -> None:
        """Have each node measure itself now."""
        for index, node in enumerate(NODES):
            card = {"uuid": "GPU-1", "util": 87.4, "mem_used_gb": 9.8, "temperature_c": 71, "power_w": 301.2}
            values = {"cpu_percent": 20.0 + 30 * index, "mem_used_gb": 3.2, "gpus": [] if index else [card]}
            self.jobs.event(self.attempt, node, time.time(), "sample", **values)
            # Fresh as long as a test lasts: samples of a while ago are not shown.
            os.utime(self.paths.node_events(self.attempt, node), (time.time(), time.time() + 3600))


@pytest.fixture
def world(job_store: JobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("UGRO_AGENT", "UGRO_INVENTORY", "UGRO_MASTER", "COLORFGBG", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    yield World(job_store, tmp_path)
