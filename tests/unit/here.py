# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A cluster of two logical nodes on this machine, with real sessions, supervisors and ranks, driven from the test."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ugro_py.cluster import Cluster, Node
from ugro_py.paths import JobPaths
from ugro_py.queue.model import Start
from ugro_py.queue.start import run_queued
from ugro_py.queue.submit import enqueue
from ugro_py.request.job import JobRequest
from ugro_py.scheduler import Gpu, Request, place
from ugro_py.state import Controller, Store

JOB = "mine"


class Here:
    """The cluster, its store, and one job that waits to be started."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder, self.store = folder, store
        self.me = Controller.me()
        self.told: list[tuple[str, Any]] = []
        nodes = tuple(
            Node(name, "127.0.0.1", connection="local", python=sys.executable, train_python=sys.executable,
                 node_dir=str(folder / "nodes"), role=role)
            for name, role in (("a", "master"), ("b", "worker"))
        )  # fmt: skip
        self.cluster = Cluster("here", nodes, folder / "hosts.yml")
        for node in nodes:
            store.sync_node(node, [Gpu(f"CPU-{node.name}-0", node.name, 0, "cpu", "CPU", None)], {})

    def settings(self, **values: Any) -> None:
        """Change settings of the cluster."""
        self.cluster = replace(self.cluster, settings=replace(self.cluster.settings, **values))

    @property
    def paths(self) -> JobPaths:
        return JobPaths(JOB)

    def on_node(self, node: str, attempt: int = 1) -> Path:
        """Return the folder of an attempt on a node."""
        return self.folder / "nodes" / node / "jobs" / JOB / str(attempt)

    async def submit(self, script: str, *args: str, **options: Any) -> None:
        """Put the job into the queue; its script is `script`."""
        code = self.folder / "code"
        code.mkdir(exist_ok=True)
        (code / "main.py").write_text(script)
        request = JobRequest(JOB, script="main.py", workdir=str(code), args=args, **options)
        await enqueue(self.store, self.cluster, request, "ob", self.me)

    async def run(self) -> Any:
        """Start the job on both nodes and stay with it; returns its outcome."""
        placements = place(Request(), ("a", "b"), self.store.gpus(), {})
        return await run_queued(
            self.store, self.cluster, self.store.job(JOB), Start(JOB, tuple(placements)), self.me,
            lambda kind, data: self.told.append((kind, data)),
        )  # fmt: skip

    def events(self, kind: str) -> list[str]:
        """Return the texts of the job's events of one kind, the oldest first."""
        return [event.text for event in self.store.events(JOB, limit=1000) if event.kind == kind]


async def until(condition: Any, what: str, timeout_s: float = 150.0) -> None:
    """Wait until a condition holds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while not condition():
        assert loop.time() < deadline, f"waited in vain: {what}"
        await asyncio.sleep(0.02)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    monkeypatch.setenv("UGRO_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("UGRO_DB", raising=False)
    with Store.open() as store:
        yield Here(tmp_path, store)
