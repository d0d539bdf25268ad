# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Reasons of a straggler that lie in its GPU: read of its own one, whatever is wrong with another of its node."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ugro.cluster.plugins.module_utils import gpu_findings, gpu_values
from click.testing import CliRunner
from sqlalchemy import update

from tests.unit.job_store import JOB, JobStore, job_store  # noqa: F401 - a fixture
from tests.unit.straggler_world import CARDS, STEPS, on_gpus, report, sample, train
from ugro_py import stragglers
from ugro_py.cli import cli
from ugro_py.cluster import Cluster, Node
from ugro_py.plan import Gang
from ugro_py.saved import save_gang
from ugro_py.scheduler import Gpu, Placement
from ugro_py.state._health import Check
from ugro_py.state.models import health_checks
from ugro_py.stragglers.reading import window


def two_on_gpu1(attempt: int) -> None:
    """Keep a gang of which two ranks have a GPU each of one node."""
    where = (("gpu-master", 0), ("gpu1", 0), ("gpu1", 1))
    places = tuple(
        Placement(rank, name, index, Gpu(f"GPU-{rank}", name, index, "cuda", CARDS[0], 24.0))
        for rank, (name, index) in enumerate(where)
    )
    cluster = Cluster("c", (Node("gpu-master", "10.0.0.0"), Node("gpu1", "10.0.0.1")), Path("hosts.yml"))
    save_gang(Gang(JOB, attempt, places, "10.0.0.0", 29500, "t0k3n"), cluster)


def of_gpu(index: int, user: str) -> list[dict[str, Any]]:
    """What the health sweep says of a GPU that somebody else uses: in its own words, so that they are understood."""
    process = {"type": "compute", "job": None, "user": user, "name": "python3", "pid": 4242, "mem_used_gb": 3.0}
    gpu = {**gpu_values.unknown(index), "uuid": f"GPU-{index}", "processes": [process]}
    read = {"gpus": [gpu], "error": None, "source": "nvml", "driver": "1"}
    limits = {"temperature_c_warning": 83, "temperature_c_critical": 90, "ecc_corrected_warning": 10}
    found = gpu_findings.gpu_findings(read, limits, {}, "gpu1", 0.0)
    return [finding for finding in found if finding["check"] == "gpu_processes"]


def check_of(jobs: JobStore, node: str, findings: list[dict[str, Any]], at: float) -> None:
    """Let the health sweep have found this, and nothing else, at that time."""
    jobs.store.record_checks([Check(node, "10.0.0.1", "degraded", "used", "warning", 1.0, findings)])
    with jobs.store.database.write() as connection:
        connection.execute(update(health_checks).values(at=datetime.fromtimestamp(at, UTC)))


def test_a_throttling_gpu_is_named_with_its_heat(job_store: JobStore) -> None:  # noqa: F811
    attempt = train(job_store, compute=(0.10, 0.123, 0.10))
    on_gpus(attempt)
    for rank, heat in enumerate((64.0, 87.0, 66.0)):
        named = ["sw_power_cap", "hw_thermal_slowdown"] if rank == 1 else ["sw_power_cap"]
        sample(job_store, attempt, rank, temperature_c=heat, throttle=named)
    found = report(job_store)
    assert found.slowest is not None and (found.slowest.rank, found.slowest.node) == (1, "gpu1")
    assert found.slowest.behind == pytest.approx(0.23) and found.slowest.behind_s == pytest.approx(0.023)
    assert [reason.kind for reason in found.slowest.reasons] == ["throttled"]
    assert found.verdict == (
        "rank 1 (gpu1, GPU 0, GeForce RTX 3090) is the slowest: 23 % behind, and the others wait for it; "
        "its GPU is throttled 100 % of the time (hw thermal slowdown; 87 °C, the others 65)"
    )
    peers = [rank.peers_s for rank in found.ranks]
    assert peers == pytest.approx([0.023, 0.0, 0.023]) and found.ranks[1].slowest_share == 1.0


def test_of_two_gpus_of_a_node_the_own_one_counts(job_store: JobStore) -> None:  # noqa: F811
    """Ranks 1 and 2 share gpu1. What is wrong with the GPU of rank 1 explains nothing of rank 2."""
    attempt = train(job_store, compute=(0.10, 0.10, 0.15))
    two_on_gpu1(attempt)
    bad = {"uuid": "GPU-1", "index": 0, "temperature_c": 91.0, "throttle": ["hw_thermal_slowdown"], "power_w": 90}
    for t in range(1001, 1001 + STEPS):
        capped = ["sw_power_cap"] if t % 5 in (0, 1) else []
        good = {"uuid": "GPU-2", "index": 1, "temperature_c": 60.0, "throttle": capped, "power_w": 120}
        job_store.event(attempt, "gpu1", t, "sample", cpu_percent=20.0, gpus=[bad, good])
    seen = window(JOB, job_store.store)
    both = [
        finding
        for index, user in enumerate(("alice", "bob"))
        for finding in of_gpu(index, user)
    ]  # fmt: skip
    check_of(job_store, "gpu1", both[:1], seen.first + 5)
    found = report(job_store)
    assert found.slowest is not None and [reason.kind for reason in found.slowest.reasons] == ["throttled"]
    assert found.verdict.startswith("rank 2 (gpu1, GPU 1, GeForce RTX 3090) is the slowest: 50 % behind")
    assert "throttled 40 % of the time (power cap; 120 W" in found.verdict
    assert "91" not in found.verdict.partition(", the others")[0] and "alice" not in found.verdict
    check_of(job_store, "gpu1", both, seen.first + 6)
    kinds = {reason.kind: reason.text for reason in stragglers.report(JOB, job_store.store).slowest.reasons}  # type: ignore[union-attr]
    assert "bob" in kinds["foreign_process"] and "alice" not in kinds["foreign_process"]
    shown = CliRunner().invoke(cli, ["stragglers", JOB], catch_exceptions=False).output
    assert [line.split()[1] for line in shown.splitlines()[1:4]] == ["gpu-master:0", "gpu1:0", "gpu1:1"]


def test_a_power_cap_that_the_others_do_not_have(job_store: JobStore) -> None:  # noqa: F811
    attempt = train(job_store, compute=(0.10, 0.10, 0.15))
    on_gpus(attempt)
    for rank in range(3):
        sample(job_store, attempt, rank, temperature_c=60.0, throttle=["sw_power_cap"] if rank == 2 else [])
    slowest = report(job_store).slowest
    assert slowest is not None and slowest.node == "gpu2" and "power cap" in slowest.reasons[0].text


def test_a_lower_clock_without_a_reason_from_the_driver(job_store: JobStore) -> None:  # noqa: F811
    attempt = train(job_store, compute=(0.15, 0.10, 0.10))
    on_gpus(attempt)
    for rank, clock in enumerate((1200, 1700, 1710)):
        sample(job_store, attempt, rank, temperature_c=60.0, clock_sm_mhz=clock)
    slowest = report(job_store).slowest
    assert slowest is not None and slowest.reasons[0].text == (
        "its GPU runs at a lower clock (1200 MHz, the others 1705; 60 °C, the others 60)"
    )


def test_a_slower_card(job_store: JobStore) -> None:  # noqa: F811
    attempt = train(job_store, compute=(0.10, 0.10, 0.30))
    on_gpus(attempt, (*CARDS[:2], "NVIDIA GeForce RTX 2060"))
    slowest = report(job_store).slowest
    assert slowest is not None and [reason.kind for reason in slowest.reasons] == ["slower_card"]
    assert "RTX 2060, the others' NVIDIA GeForce RTX 3090" in slowest.reasons[0].text


def test_a_gpu_on_a_slow_bus(job_store: JobStore) -> None:  # noqa: F811
    attempt = train(job_store, compute=(0.10, 0.10, 0.15))
    on_gpus(attempt)
    for rank, (generation, width) in enumerate(((4, 16), (4, 8), (3, 1))):
        sample(job_store, attempt, rank, temperature_c=60.0, pcie_generation=generation, pcie_width=width)
        # Without work for a moment a GPU slows its link down: that is nothing.
        job_store.event(attempt, f"gpu{rank}" if rank else "gpu-master", 1003.5, "sample", cpu_percent=1.0,
                        gpus=[{"uuid": f"GPU-{rank}", "pcie_generation": 1, "pcie_width": width},
                              {"uuid": f"GPU-{rank}", "pcie_generation": "4", "pcie_width": 1e999}])  # fmt: skip
    slowest = report(job_store).slowest
    assert slowest is not None and [reason.kind for reason in slowest.reasons] == ["slow_bus"]
    assert slowest.reasons[0].text == "its GPU is on PCIe 3.0 x1, the others on 4.0 x8"


def test_somebody_elses_process_as_the_health_sweep_saw_it(job_store: JobStore) -> None:  # noqa: F811
    """What it saw in the time of these steps counts; what it sees now does not, nor does it to a rank without a GPU."""
    attempt = train(job_store, compute=(0.10, 0.15, 0.10))
    job_store.end()
    seen = window(JOB, job_store.store)
    findings = of_gpu(0, "alice")
    check_of(job_store, "gpu1", findings, seen.first + 5)
    assert "alice" not in stragglers.report(JOB, job_store.store).verdict, "it trains on a CPU slot"
    on_gpus(attempt)
    found = stragglers.report(JOB, job_store.store)
    assert found.slowest is not None and [reason.kind for reason in found.slowest.reasons] == ["foreign_process"]
    assert "GPU 0 is used by alice (python3, PID 4242, 3.0 GB)" in found.verdict
    assert "--exclude gpu1:0" in found.slowest.reasons[0].next_step
    check_of(job_store, "gpu1", findings, seen.last + 3600)
    assert "alice" not in stragglers.report(JOB, job_store.store).verdict
