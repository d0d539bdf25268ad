# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The playbooks health and verify, as cron and people run them, and the verbs that say the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.support import Ugro, edited, wait_until
from tests.lab import Host, Lab
from ugro_py import paths
from ugro_py.runner import environment

pytestmark = pytest.mark.lab

ANSIBLE_PLAYBOOK = Path(sys.prefix) / "bin" / "ansible-playbook"
MARKS = ("✓", "!", "✗")
# What this machine is short of, or busy with, is not what these tests are about.
PATIENT = {"load_per_cpu_warning": 1e6, "memory_available_gb_warning": 0.0, "disk_free_gb_warning": 0.0}


def play(
    ugro: Ugro, name: str, inventory: Path, code: int, **extra: Any
) -> tuple[list[str], subprocess.CompletedProcess[str]]:
    """Run a playbook by path and return the lines of its verdict, and all it said."""
    extra = {f"{name}_thresholds": PATIENT, **extra}
    done = subprocess.run(
        [str(ANSIBLE_PLAYBOOK), str(paths.playbook(name)), "-i", str(inventory), "-e", json.dumps(extra)],
        env={**ugro.env, **environment()},
        cwd=ugro.home,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith(MARKS)], done


def make_environment(host: Host, folder: str, torch: str) -> None:
    """Put what looks like a training environment with that torch on a host."""
    site = f"{folder}/lib/python3.11/site-packages"
    script = (
        f"mkdir -p {site}/torch-{torch}.dist-info {site}/torch {folder}/bin && "
        f"printf 'home = /usr/bin\\nversion = 3.11.2\\n' > {folder}/pyvenv.cfg && "
        f"printf 'cuda = None\\n' > {site}/torch/version.py && "
        f"printf '#!/bin/sh\\nexit 77\\n' > {folder}/bin/python && chmod 755 {folder}/bin/python"
    )
    host.run(["sh", "-c", script])


def test_a_healthy_cluster_is_a_line_a_node_and_exit_code_0(ugro: Ugro, lab3: Lab, tmp_path: Path) -> None:
    inventory = lab3.inventory_file("health.yml")
    verdict = tmp_path / "out" / "health.json"
    lines, done = play(ugro, "health", inventory, 0, ugro_health_json=str(verdict))
    assert [line.partition(":")[0] for line in lines] == ["✓ gpu-master", "✓ gpu1", "✓ gpu2"]
    assert "changed=0" in done.stdout and "changed=1" not in done.stdout
    data = json.loads(verdict.read_text())
    assert (data["severity"], sorted(data["nodes"])) == ("ok", ["gpu-master", "gpu1", "gpu2"])
    assert len(ugro.run("health").stdout.splitlines()) >= 3
    shown = ugro.json("health", "--json")
    assert {name: node["summary"] for name, node in shown["nodes"].items()} == {
        name: node["summary"] for name, node in data["nodes"].items()
    }
    assert "critical" not in [node["severity"] for node in shown["nodes"].values()]


def test_what_the_playbook_finds_is_in_the_store_where_there_is_one(ugro: Ugro, lab3: Lab) -> None:
    bad = edited(lab3, "health-record.yml", lambda hosts: hosts["gpu2"].update(ugro_gpu_count=1))
    play(ugro, "health", bad, 2)
    assert not (ugro.data / "ugro.db").exists(), "a look at the nodes makes no database"
    ugro.run("nodes", "drain", "gpu1")
    play(ugro, "health", bad, 2, health_record=False)
    with ugro.store() as store:
        assert [row.health for row in store.nodes()] == ["unknown"]
    play(ugro, "health", bad, 2)
    with ugro.store() as store:
        assert {row.name: row.health for row in store.nodes()} == {
            "gpu-master": "healthy", "gpu1": "healthy", "gpu2": "degraded"
        }  # fmt: skip
        assert store.unschedulable()["gpu2"].startswith("gpu2 is drained by health: GPU 0 not visible")


def test_each_finding_is_a_line_that_says_what_to_do(ugro: Ugro, lab3: Lab, tmp_path: Path) -> None:
    def spoil(hosts: dict[str, Any]) -> None:
        hosts["gpu-master"]["ugro_python"] = "/no/such/python"
        hosts["gpu1"]["ansible_port"] = 2022  # nobody listens
        hosts["gpu2"].update(ugro_gpu_count=1, ugro_gpu="RTX 4070", ugro_vram_gb=8)

    inventory = edited(lab3, "health-bad.yml", spoil)
    verdict = tmp_path / "health.json"
    lines, done = play(ugro, "health", inventory, 2, ugro_health_json=str(verdict))
    assert len(lines) == 3, done.stdout
    assert lines[0] == (
        "✗ gpu-master: training Python: /no/such/python is not there; "
        "run `ugro bootstrap` or set ugro_python in the inventory"
    )
    assert lines[1].startswith("✗ gpu1: unreachable: ") and "Connection refused" in lines[1]
    assert lines[2] == "✗ gpu2: GPU 0 not visible to NVML (no driver); run `ugro check gpu2 --deep`"
    data = json.loads(verdict.read_text())
    assert {name: node["severity"] for name, node in data["nodes"].items()} == dict.fromkeys(data["nodes"], "critical")
    play(ugro, "health", inventory, 0, health_fail_on="never")

    ugro.inventory = inventory
    said = ugro.run("health", code=4)
    assert {lines[0], lines[2]} < set(said.stdout.splitlines())
    assert "gpu1 unreachable, gpu-master, gpu2 not fit for training" in said.stderr
    assert ugro.json("health", "--json", code=4)["nodes"]["gpu1"]["summary"] == "unreachable"


def test_verify_compares_the_nodes_and_fails_in_one_place(ugro: Ugro, lab3: Lab) -> None:
    second, third = lab3.hosts[1], lab3.hosts[2]
    for host, torch in ((lab3.hosts[0], "2.6.0"), (second, "2.6.0"), (third, "2.5.1")):
        make_environment(host, f"{host.home}/env", torch)
    name = second.enter(["hostname"]).stdout.strip()
    inventory = edited(
        lab3, "verify-bad.yml", lambda hosts: [each.update(ugro_python="~/env/bin/python") for each in hosts.values()]
    )
    try:
        second.enter(["hostname", "nobody-knows-me"])
        lines, done = play(ugro, "verify", inventory, 2)
    finally:
        second.enter(["hostname", name])
    assert lines[0].startswith("✓ gpu-master: ")
    assert lines[1].startswith("✗ gpu1: its own name nobody-knows-me does not resolve")
    assert lines[2:] == ["✗ gpu2: torch differs (gpu-master 2.6.0, gpu1 2.6.0, gpu2 2.5.1); run `ugro bootstrap`"]
    assert f"add `{second.address} nobody-knows-me` to /etc/hosts there" in lines[1]
    assert done.stdout.count("fatal:") == 1 and "2 findings would make a launch fail" in done.stdout
    lines, _ = play(ugro, "verify", lab3.inventory_file("verify.yml"), 0)
    assert [line[0] for line in lines] == ["✓", "✓", "✓"]


def test_a_node_that_is_off_is_one_finding_and_costs_seconds(ugro: Ugro, lab3: Lab) -> None:
    host = lab3.hosts[1]
    inventory = lab3.inventory_file("health-off.yml")
    play(ugro, "health", inventory, 0)  # connections are up now
    host.unplug()
    try:
        lines, _ = play(ugro, "health", inventory, 2)
    finally:
        host.plug()
        wait_until(lambda: host.run(["true"], check=False).returncode == 0, "gpu1 answers again")
    assert [line[: line.index(":")] for line in lines] == ["✓ gpu-master", "✗ gpu1", "✓ gpu2"]
    assert "unreachable" in lines[1]
