# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Experiments as they lie in a state database and a central store, for tests of what lists and compares them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ugro_py import metrics
from ugro_py.cluster import Node
from ugro_py.paths import JobPaths
from ugro_py.scheduler import Gpu, Request, place
from ugro_py.state import Controller, Store

START = 1_700_000_000.0


class Experiments:
    """One node with two GPUs, and jobs that ran on it one after the other."""

    def __init__(self, store: Store) -> None:
        self.store = store
        gpus = [Gpu(f"GPU-{index}", "gpu1", index, "cuda", "RTX 4090", 24.0) for index in (0, 1)]
        store.sync_node(Node("gpu1", "10.0.0.1", role="master"), gpus, {})

    def run(
        self,
        job: str,
        losses: Sequence[float | None] = (3.0, 2.0, 1.0),
        *,
        user: str = "ob",
        status: str | None = "completed",
        watts: float | None = None,
        request: Mapping[str, Any] | None = None,
        capsule: Mapping[str, Any] | None = None,
    ) -> JobPaths:
        """Run a job with two ranks and a loss per step and second; `status` None leaves it running."""
        asked = {"model": "tiny-llama", "dataset": "python-docs", **(request or {})}
        self.store.create_job(job, user, asked)
        self.store.claim(job, Controller.me())
        placements = place(Request(), ["gpu1"], self.store.gpus(), {})
        number = self.store.start_attempt(job, placements, master_addr="10.0.0.1", master_port=29500, token="t")
        self.store.set_job(job, "running")
        paths = JobPaths(job)
        paths.root.mkdir(parents=True)
        if capsule is not None:
            paths.config.write_text(json.dumps(capsule))
        for step, loss in enumerate(losses, 1):
            for rank in (0, 1):
                values: dict[str, object] = {"rank": rank, "step": step, "training_loss": loss}
                values |= {"throughput_tokens_sec": 100, **({"nonfinite": ["training_loss"]} if loss is None else {})}
                self.event(job, START + step, "metrics", **values)
            if watts is not None:
                gpus = [{"uuid": f"GPU-{index}", "util": 50, "mem_used_gb": 8, "power_w": watts} for index in (0, 1)]
                self.event(job, START + step, "sample", cpu_percent=10, mem_used_gb=4, gpus=gpus)
        metrics.rebuild(paths)
        if status is not None:
            self.store.set_attempt(job, number, status=status)
            self.store.release(job)
            self.store.set_job(job, status, "", 0)
        return paths

    def event(self, job: str, t: float, kind: str, **values: object) -> None:
        """Add to the copy of what the node's supervisor wrote."""
        path = JobPaths(job).node_events(1, "gpu1")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as stream:
            stream.write(json.dumps({"t": t, "kind": kind, **values}) + "\n")


@pytest.fixture
def ran(store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Experiments]:
    """An empty cluster, once on SQLite and once on PostgreSQL."""
    monkeypatch.setenv("UGRO_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("UGRO_DB", store_url)
    with Store.open(store_url) as store:
        yield Experiments(store)


@pytest.fixture
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Experiments]:
    """An empty cluster in a store of the caller's own, without an agent."""
    monkeypatch.setenv("UGRO_DATA", str(tmp_path / "data"))
    for name in ("UGRO_DB", "UGRO_AGENT"):
        monkeypatch.delenv(name, raising=False)
    with Store.open() as store:
        yield Experiments(store)
