# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The sweep without a network: nodes are programs of this machine, some of which hang, end or say nothing."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ugro_py.cluster import Cluster, Node, Settings
from ugro_py.health import findings, probe
from ugro_py.health.sweeper import Sweeper
from ugro_py.state import Store
from ugro_py.transport import Session

CALM = {"load_per_cpu_warning": 1e6, "memory_available_gb_warning": 0.0, "memory_available_gb_critical": 0.0,
        "disk_free_gb_warning": 0.0, "disk_free_gb_critical": 0.0}  # fmt: skip
SICK_DEADLINE_S = 1.0
# Answers `hello`, beats, and answers the probes until a file is there.
SICK = """
import json, os, sys, threading, time
def beat():
    while True:
        time.sleep(0.2)
        print(json.dumps({"push": "heartbeat", "t": time.time()}), flush=True)
print("UGRO-READY", flush=True)
threading.Thread(target=beat, daemon=True).start()
node = {"name": "sick", "hostname": "sick", "boot_id": "b", "clock": time.time(), "train_python": None, "disks": [],
        "memory": {"available_gb": 9.0}, "load": [0, 0, 0], "cpu_count": 1, "address": None,
        "resolver": {"error": None, "addresses": []}, "rsync": "r", "unit_manager": "user"}
gpu = {"source": "none", "driver": None, "cuda": None, "error": None, "gpus": [], "xids": []}
for line in sys.stdin:
    request = json.loads(line)
    if request["method"] == "hello":
        print(json.dumps({"id": request["id"], "result": {"t": time.time()}}), flush=True)
        continue
    if not os.path.exists(sys.argv[-1]):
        print(json.dumps({"id": request["id"], "result": {"node": node, "gpu": gpu, "running": []}}), flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(probe, "AGAIN_S", 0.2)
    monkeypatch.setattr(probe, "DEADLINE_S", 30.0)
    real = {"open": Session.open, "call": Session.call}

    # Short patience is for those that never answer: any other may be slow, on a busy machine.
    async def opened(node: Node, *, timeout_s: float) -> Session:
        return await real["open"](node, timeout_s=2.0 if node.name == "hanging" else 60.0)

    async def call(self: Session, method: str, *, timeout_s: float, **params: Any) -> Any:
        mute = method == "probe" and self.node.name == "sick"
        return await real["call"](self, method, timeout_s=SICK_DEADLINE_S if mute else timeout_s, **params)

    monkeypatch.setattr(Session, "open", opened)
    monkeypatch.setattr(Session, "call", call)
    return tmp_path


def node(name: str, python: Path | str) -> Node:
    return Node(name, "127.0.0.1", connection="local", python=str(python), train_python=sys.executable)


def program(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def sick(folder: Path) -> Node:
    (folder / "sick.py").write_text(SICK)
    return node("sick", program(folder, "sick", f"exec {sys.executable} {folder}/sick.py {folder}/mute"))


def cluster(*nodes: Node) -> Cluster:
    return Cluster("test", nodes, Path("/none"), settings=Settings(health_interval_s=1.0, health_thresholds=CALM))


async def until(condition: Callable[[], Any], what: str, timeout_s: float = 60.0) -> None:
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < timeout_s, what
        await asyncio.sleep(0.05)


def watched(nodes: Cluster, store: Store | None, body: Callable[[Sweeper], Any]) -> None:
    """Run the sweep beside `body`."""

    async def run() -> None:
        sweeper, stop = Sweeper(nodes, store), asyncio.Event()
        running = asyncio.create_task(sweeper.run(stop))
        try:
            await body(sweeper)
        finally:
            stop.set()
            await running

    asyncio.run(run())


def test_one_sweep_is_as_long_as_the_slowest_node_and_no_longer(folder: Path) -> None:
    nodes = cluster(
        node("well", sys.executable),
        node("hanging", program(folder, "hanging", "exec sleep 600")),
        node("missing", folder / "no-python"),
        node("dead", program(folder, "dead", "echo 'cannot go on' >&2; exit 3")),
    )

    async def body() -> None:
        sweeper = Sweeper(nodes)
        found = await sweeper.sweep()
        assert {name: health.state for name, health in found.items()} == {
            "well": "healthy", "hanging": "unknown", "missing": "unknown", "dead": "unknown"
        }  # fmt: skip
        assert sweeper.took_s < 60
        assert "cannot go on" in found["dead"].reason and "No such file" in found["missing"].reason
        assert found["well"].summary.startswith("no GPU") and found["well"].severity == "ok"
        await sweeper.close()

    asyncio.run(body())


def test_a_node_that_does_not_start_is_unreachable_and_the_others_go_on(folder: Path, store: Store) -> None:
    nodes = cluster(node("well", sys.executable), node("hanging", program(folder, "hanging", "exec sleep 600")))

    async def body(sweeper: Sweeper) -> None:
        await until(lambda: "well" in sweeper.health, "well was probed")
        await until(lambda: sweeper.health.get("hanging") and sweeper.health["hanging"].state == "unreachable", "gone")
        assert sweeper.health["well"].state == "healthy"
        await until(lambda: "hanging" in store.unschedulable(), "the store knows")

    watched(nodes, store, body)
    assert set(store.unschedulable()) == {"hanging"}
    # What a node has is known too: the queue places jobs by it.
    assert [gpu.uuid for gpu in store.gpus()] == ["CPU-well-0"]


def test_a_node_that_lives_and_gives_no_readings_is_degraded_not_lost(
    folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its readings are given up at the deadline, asked for one at a time, and the other nodes are read as ever."""
    monkeypatch.setattr(findings, "STALE_REPORT_S", 5.0)
    nodes = cluster(sick(folder), node("well", sys.executable))
    asked: list[float] = []  # by the clock of who asks: a node may read late that it was
    probes: list[int] = []
    real = Session.call

    async def noted(self: Session, method: str, **params: Any) -> Any:
        if method == "probe" and self.node.name == "sick":
            asked.append(time.monotonic())
        return await real(self, method, **params)

    monkeypatch.setattr(Session, "call", noted)

    async def body(sweeper: Sweeper) -> None:
        await until(lambda: sweeper.health.get("sick") and sweeper.health["sick"].state == "healthy", "healthy")
        await until(lambda: "well" in sweeper.health, "well was probed")
        (folder / "mute").touch()
        asked.clear()
        probes.append(sweeper._probes["well"].probes)
        await until(lambda: sweeper.health["sick"].state == "degraded", "its readings are old")
        assert "readings are" in sweeper.health["sick"].reason
        probes.append(sweeper._probes["well"].probes)
        assert sweeper.health["well"].state == "healthy"
        (folder / "mute").unlink()
        await until(lambda: sweeper.health["sick"].state == "healthy", "it reads itself again")

    watched(nodes, store, body)
    texts = [event.text for event in store.events() if (event.kind, event.node) == ("node_health", "sick")]
    assert len(texts) == 3 and texts[1].startswith("healthy -> degraded: its readings are")
    assert probes[1] > probes[0], "another node was read meanwhile"
    silent = [after - before for before, after in itertools.pairwise(asked)][:2]
    assert len(silent) == 2 and min(silent) >= 0.9 * SICK_DEADLINE_S, "no second reading before the first is given up"


def test_a_session_that_ends_is_opened_again_and_nobody_is_told(folder: Path, store: Store) -> None:
    nodes = cluster(node("well", sys.executable))

    async def body(sweeper: Sweeper) -> None:
        await until(lambda: "well" in sweeper.health, "probed")
        watcher = sweeper._probes["well"]
        for _ in range(3):
            first, killed_at = watcher._session, time.monotonic()
            assert first is not None
            first._process.kill()
            await until(lambda first=first: watcher._session not in (None, first), "a new session")
            await until(lambda at=killed_at: watcher.report_at > at and watcher.state.settled, "it answers")

    watched(nodes, store, body)
    assert [event.text for event in store.events() if event.kind == "node_health"] == ["unknown -> healthy"]


def test_a_sweep_is_over_when_every_node_was_probed_and_takes_as_long_as_the_slowest(folder: Path) -> None:
    slow = program(folder, "slow", f'sleep 1\nexec {sys.executable} "$@"')
    took: list[float] = []

    async def body(sweeper: Sweeper) -> None:
        sweeper.on_sweep = took.append
        await until(lambda: "well" in sweeper.health, "one was probed")
        await until(lambda: took, "a sweep is over")
        assert all(probe.probes for probe in sweeper._probes.values())
        await until(lambda: len(took) > 2, "and another")

    watched(cluster(node("well", sys.executable), node("slow", slow)), None, body)
    assert took[0] > 1.0, "the first starts the slow one's program"
    assert took[-1] > 0.0


def test_nodes_come_and_go_while_the_sweep_runs(folder: Path) -> None:
    first, second = node("first", sys.executable), node("second", sys.executable)

    async def body(sweeper: Sweeper) -> None:
        await until(lambda: "first" in sweeper.health, "first was probed")
        kept = sweeper._probes["first"]
        sweeper.use(cluster(first, second))
        await until(lambda: "second" in sweeper.health, "second was probed")
        assert sweeper._probes["first"] is kept
        sweeper.use(cluster(second))
        await asyncio.sleep(1.5)
        assert set(sweeper.health) == {"second"}

    watched(cluster(first), None, body)


def test_a_gpu_that_is_not_shown_any_more_is_lost_until_the_node_boots_anew() -> None:
    memory = findings.Memory()

    def report(boot: str, *uuids: str, **more: Any) -> dict[str, Any]:
        cards = [{"uuid": uuid, "index": number, "lost": False} for number, uuid in enumerate(uuids)]
        return {"node": {"boot_id": boot}, "gpu": {"gpus": cards, "error": None, **more}}

    assert memory.vanished(report("one", "GPU-a", "GPU-b")) == []
    assert memory.vanished(report("one", "GPU-a")) == [(1, "GPU-b")]
    assert memory.vanished(report("one", error={"kind": "timeout"})) == [], "that is a finding of its own"
    assert memory.vanished(report("one", "GPU-a", "GPU-b")) == []
    assert memory.vanished(report("two", "GPU-a")) == [], "somebody took it out"


def test_what_others_marked_missing_is_there_again_when_the_node_shows_it(folder: Path, store: Store) -> None:
    """A job lost its GPU, which was back before the next sweep: to the sweep nothing has changed."""
    nodes = cluster(sick(folder))

    async def body(_sweeper: Sweeper) -> None:
        await until(lambda: [gpu.uuid for gpu in store.gpus()] == ["CPU-sick-0"], "the node was read")
        store.gpu_is_gone("CPU-sick-0")
        assert store.gpus() == [] and "is gone" in store.unusable_gpus()["CPU-sick-0"]
        await until(lambda: store.gpus(), "it is there again")

    watched(nodes, store, body)
    assert [event.kind for event in store.events() if event.kind.startswith("gpu_")] == ["gpu_back"]
