# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""`ugro top --once` without an agent: the nodes' state is what `ugro health` finds, and no node is waited for long."""

# ruff: noqa: F811 - the fixtures
from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.unit.test_readings import local, program
from tests.unit.top_hand import Hand, top
from tests.unit.top_world import JOB, World, job_store, world  # noqa: F401 - fixtures
from ugro_py.cli import cli
from ugro_py.cluster import Cluster
from ugro_py.top import unwatched
from ugro_py.top.app import TopApp
from ugro_py.top.doors import StoreDoor

INVENTORY = """
ugro_nodes:
  vars: {ugro_cluster_name: lab, ansible_connection: local, ansible_python_interpreter: "%s"}
  hosts:
    gpu-master: {ansible_host: 127.0.0.1, ugro_role: master}
    gone: {ansible_host: 127.0.0.1, ansible_python_interpreter: "%s"}
"""


def test_once_says_what_health_says(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unwatched, "WITHIN_S", 60.0)  # none of them hangs, but a busy machine may be slow
    dead = program(tmp_path, "dead", "echo 'cannot go on' >&2; exit 3")
    world.inventory.write_text(INVENTORY % (sys.executable, dead))

    def told(*words: str) -> dict[str, dict[str, object]]:
        done = CliRunner().invoke(cli, ["-i", str(world.inventory), *words, "--json"])
        nodes = json.loads(done.stdout)["nodes"]
        return nodes if isinstance(nodes, dict) else {node["node"]: node for node in nodes}

    health, seen = told("health"), told("top")
    assert {name: node["state"] for name, node in health.items()} == {name: seen[name]["state"] for name in health}
    assert health["gpu-master"]["state"] in ("healthy", "degraded") and health["gone"]["state"] == "unreachable"
    assert "cannot go on" in str(seen["gone"]["reason"])
    assert seen["gpu1"]["state"] == "unknown", "a job holds it, and the inventory no longer has it"
    once = CliRunner().invoke(cli, ["-i", str(world.inventory), "top", "--once"]).stdout
    assert "unreachable" in once and "cannot go on" in once and JOB in once


def test_drained_late_and_unknown(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unwatched, "WITHIN_S", 0.5)
    nodes = [local(name, program(tmp_path, "hangs", "exec sleep 600")) for name in ("gpu-master", "late")]
    world.store.sync_node(nodes[0], [], {})
    world.store.drain(nodes[0].name, "ann", "a fan")
    found = {entry["node"]: entry for entry in unwatched.asked(world.store, Cluster("lab", nodes, tmp_path))["nodes"]}
    assert found["late"]["state"] == "unknown"
    assert found["late"]["reason"] == "no answer in 0.5 s; `ugro health` waits longer"
    assert found["gpu-master"]["state"] in ("draining", "drained")
    assert found["gpu-master"]["reason"] == "drained by ann: a fan"


def test_the_screen_tells_how_to_learn_it(world: World) -> None:
    async def check(app: TopApp, hand: Hand) -> None:
        await hand.until(lambda: "gpu1" in hand.rows("nodes"), "the nodes")
        row = hand.rows("nodes")["gpu1"]
        assert (row["STATE"], row["WHY"]) == ("unknown", "nobody has looked at it; `ugro health` does")

    top(check, (160, 40), door=lambda: StoreDoor(str(world.inventory)))
