"""A job as it lies in the central store and in a state database, for tests of what reads them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ugro_py import metrics
from ugro_py.cluster import Node
from ugro_py.paths import JobPaths
from ugro_py.scheduler import Gpu, Request, place
from ugro_py.state import Controller, Store

JOB = "first_test"
NODES = ("gpu-master", "gpu1", "gpu2")


class JobStore:
    """Three nodes with a CPU slot each, one job on all of them, and what its nodes sent."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.paths = JobPaths(JOB)
        for folder in (self.paths.logs, self.paths.checkpoints, self.paths.tensorboard):
            folder.mkdir(parents=True)
        for index, name in enumerate(NODES):
            node = Node(name, f"10.0.0.{index}", role="worker" if index else "master")
            store.sync_node(node, [Gpu(f"CPU-{name}-0", name, 0, "cpu", "CPU", None)], {})
        store.create_job(JOB, "ob", {"model": "tiny-llama"})
        store.claim(JOB, Controller.me())

    def attempt(self) -> int:
        """Start an attempt; the job runs."""
        placements = place(Request(), NODES, self.store.gpus(), {})
        number = self.store.start_attempt(
            JOB, placements, master_addr="10.0.0.0", master_port=29500, token="t0k3n"
        )  # fmt: skip
        self.store.set_job(JOB, "running")
        return number

    def event(self, attempt: int, node: str, t: float, kind: str, **values: object) -> None:
        """Add to the copy of what a node's supervisor wrote."""
        path = self.paths.node_events(attempt, node)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as stream:
            stream.write(json.dumps({"t": t, "kind": kind, **values}) + "\n")

    def step(self, attempt: int, rank: int, step: int, loss: float | None, **values: object) -> None:
        """Add a line of metrics of one rank."""
        line = {"rank": rank, "step": step, "training_loss": loss, **values}
        self.event(attempt, NODES[rank], 1000.0 + step, "metrics", **line)

    def end(self, status: str = "completed", reason: str = "", exit_code: int = 0) -> None:
        """End the job as the controller does."""
        metrics.rebuild(self.paths)
        attempt = self.store.attempt(JOB)
        if attempt:
            self.store.set_attempt(JOB, attempt.number, status=status)
        self.store.release(JOB)
        self.store.set_job(JOB, status, reason, exit_code)


@pytest.fixture
def job_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobStore]:
    monkeypatch.setenv("UGRO_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("UGRO_DB", raising=False)
    with Store.open() as store:
        yield JobStore(store)
