# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A rank that is really slow, and a cable that is really thin: which node it is, why, and what it is worth."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import nvml
from tests.integration.support import SCRIPTS, Ugro, edited, wait_until
from tests.lab import Host, Lab
from tests.nvml import hosts as gpus

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(1000)]

PACED = SCRIPTS / "paced.py"
MEGABITS = 80
LONG_S = 400.0  # three ranks import torch and transformers, on a busy machine
STEPS, WORK_S, GRADIENTS_MB = 20, 0.9, 2.0


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(3)


@pytest.fixture
def ugro(lab: Lab, fresh_home: Path, tmp_path: Path) -> Iterator[Ugro]:
    ugro = Ugro(fresh_home, tmp_path / "data", lab.inventory_file(), lab)
    yield ugro
    ugro.close()


@contextmanager
def thin_cable(host: Host) -> Iterator[None]:
    """Let both ends of a host's cable send `MEGABITS` a second."""
    shape = f"root tbf rate {MEGABITS}mbit burst 64k latency 200ms".split()
    try:
        subprocess.run(["tc", "qdisc", "add", "dev", host.link, *shape], check=True, capture_output=True)
        host.enter(["tc", "qdisc", "add", "dev", "host0", *shape])
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this kernel has no qdisc tbf: {error.stderr}")
    try:
        yield
    finally:
        subprocess.run(["tc", "qdisc", "del", "dev", host.link, "root"], check=True)
        host.enter(["tc", "qdisc", "del", "dev", "host0", "root"])


def test_a_host_with_little_cpu_is_named(ugro: Ugro, lab: Lab) -> None:
    options = ("--epochs", "1", "--env", "OMP_NUM_THREADS=1", "--", "--max-steps", "60")
    ugro.run("launch", "-d", "--name", "slow", *options)
    wait_until(lambda: "step 1/" in ugro.log("slow", 0), "the first step", LONG_S)
    lab.host("gpu1").cpu_limit(15)
    try:
        row = ugro.wait_for("slow", "completed", "failed", timeout_s=LONG_S)
    finally:
        lab.host("gpu1").cpu_limit(None)
    assert row.status == "completed", row.reason
    found: dict[str, Any] = ugro.json("stragglers", "slow", "--json")
    assert found["timed"] and found["slowest"]["node"] == "gpu1", found
    assert [reason["kind"] for reason in found["slowest"]["reasons"]] == ["cpu_limited"], found
    ranks = {rank["node"]: rank for rank in found["ranks"]}
    # The others stand in collectives for it, and it stands in none for them.
    assert ranks["gpu-master"]["peers_s"] > 5 * ranks["gpu1"]["peers_s"]
    assert found["gradient_bytes"] > 1_000_000
    assert "gpu1 is the slowest" in ugro.run("stragglers", "slow").stdout


def test_a_gpu_that_slows_itself_down_is_the_reason(lab: Lab, make_ugro: Callable[..., Ugro], tmp_path: Path) -> None:
    if reason := nvml.skip_reason():
        pytest.skip(reason)
    names = ("gpu1", "gpu2")
    for name in names:
        gpus.give(lab.host(name), tmp_path / "nvml")
    inventory = edited(lab, "gpus.yml", lambda hosts: [hosts[name].update(ugro_python=gpus.PYTHON) for name in names])
    ugro = make_ugro(inventory, lab)
    paced = ("--script", PACED, "--", 120, 0.4, 0.1, "gpu2")
    ugro.run("launch", "-d", "--name", "hot", "--include", "gpu1:0", "--include", "gpu2:0", *paced)
    wait_until(lambda: ugro.json("stragglers", "hot", "--json")["timed"], "the job tells its times", every_s=0.5)
    gpus.heat(lab.host("gpu2"))  # a GPU that is so hot before gets no job
    row = ugro.wait_for("hot", "completed", "failed", timeout_s=LONG_S)
    assert row.status == "completed", row.reason
    found = ugro.json("stragglers", "hot", "--json")
    assert found["slowest"]["node"] == "gpu2", found
    (why,) = found["slowest"]["reasons"]
    assert why["kind"] == "throttled" and "hw thermal slowdown" in why["text"], found
    assert found["slowest"]["behind"] == pytest.approx(0.5, abs=0.3)


def test_a_thin_cable_is_found_and_its_node_is_better_left_out(ugro: Ugro, lab: Lab) -> None:
    arguments = ("--script", PACED, "--", STEPS, WORK_S, GRADIENTS_MB)
    with thin_cable(lab.host("gpu2")):
        ugro.run("launch", "--name", "three", *arguments)
        found = ugro.json("stragglers", "three", "--json")
        assert found["bottleneck"] == "network" and found["slowest"] is None, found
        worth = ugro.json("worth", "three", "--json")
    fast = {(link["source"], link["target"]): link["mb_s"] for link in worth["links"]}
    assert len(fast) == 6
    thin = MEGABITS / 8
    for (source, target), rate in fast.items():
        if "gpu2" in (source, target):
            assert 0.6 * thin < rate < 1.1 * thin, fast
        else:
            assert rate > 3 * thin, fast
    advice = {each["node"]: each for each in worth["without"]}
    assert advice["gpu2"]["change"] < 0 < advice["gpu-master"]["change"], worth
    for node, wanted in (("gpu2", "leave out"), ("gpu-master", "keep")):
        # A machine that was busy meanwhile moves what was measured away from any prediction.
        told = abs(advice[node]["change"]) >= worth["off"]
        assert advice[node]["advice"] == (wanted if told else "no telling"), worth
    shown = ugro.run("worth", "three").stdout
    print(shown)
    assert "without gpu2" in shown and ("leave it out" in shown or advice["gpu2"]["advice"] == "no telling")
    # What the network is was kept: the dashboard and `ugro stragglers` know it too.
    kept = ugro.json("stragglers", "three", "--json")
    assert kept["worth"]["without"] == worth["without"] and "gpu2" in kept["verdict"]

    ugro.run("launch", "--name", "two", "--exclude", "gpu2", *arguments)
    two = ugro.json("stragglers", "two", "--json")
    predicted, measured = advice["gpu2"]["step"]["step_s"], two["step_s"]
    print(f"with gpu2 {worth['measured_s']:.3f} s (predicted {worth['whole']['step_s']:.3f} s), "
          f"without it {measured:.3f} s (predicted {predicted:.3f} s)")  # fmt: skip
    assert measured < worth["measured_s"] and predicted == pytest.approx(measured, rel=0.3)


def test_a_job_that_runs_is_not_disturbed_unasked(ugro: Ugro) -> None:
    ugro.run("launch", "-d", "--name", "busy", "--script", PACED, "--", 100_000, 0.3, 0.1)
    wait_until(lambda: ugro.json("stragglers", "busy", "--json")["timed"], "the job tells its times", every_s=0.5)
    refused = ugro.run("worth", "busy", code=2)
    assert "the job uses it now" in refused.stderr and "--measure" in refused.stderr
    assert ugro.json("worth", "busy", "--measure", "--json")["without"]
    ugro.run("stop", "busy")
