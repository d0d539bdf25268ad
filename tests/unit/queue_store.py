# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A store with two nodes and a queue, for the tests of what is asked of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from ugro_py.cluster import Cluster, Node, Settings
from ugro_py.queue.decide import decide
from ugro_py.queue.model import Decision
from ugro_py.queue.snapshot import snapshot_of
from ugro_py.scheduler import Gpu
from ugro_py.state import Controller, Store

NODES = (Node("master", "10.0.0.1", role="master"), Node("gpu1", "10.0.0.2"))
CLUSTER = Cluster("test", NODES, Path("hosts.yml"), settings=Settings(grace_s=10, preemption=True))


@pytest.fixture
def known(store: Store) -> Store:
    """A store that knows two nodes with two GPUs each, and that this process is the agent."""
    for node in NODES:
        store.sync_node(node, [Gpu(f"{node.name}-{i}", node.name, i, "cuda", "RTX", 8.0) for i in range(2)], {})
    assert store.acquire_lease(Controller.me(), 60.0)
    return store


def submit(store: Store, name: str, gpus: int = 1, user: str = "ob", group: str | None = None, **asked: Any) -> None:
    store.create_job(name, user, {"name": name, "gpus": gpus, **asked}, group=group)


def start(store: Store, decision: Decision) -> list[str]:
    """Do what a decision says, as the agent does."""
    for begun in decision.start:
        store.start_attempt(begun.job, begun.placements, master_addr="10.0.0.1", master_port=29500, token=begun.job)
        store.set_job(begun.job, "running")
    return [begun.job for begun in decision.start]


def now_decided(store: Store) -> Decision:
    return decide(snapshot_of(store, CLUSTER, time.time()))


def order(store: Store) -> list[str]:
    return list(now_decided(store).order)
