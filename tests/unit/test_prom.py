# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The agent's /metrics: what is told of GPUs, jobs, the queue and events, and that it stays bounded."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ugro.cluster.plugins.module_utils import gpu_values
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.api_server import FakeAgent
from ugro_py.api import prom_jobs
from ugro_py.api.prom import exposition
from ugro_py.paths import JobPaths
from ugro_py.scheduler import Gpu, Request, place
from ugro_py.state import Controller
from ugro_py.state._health import Check

Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAgent]:
    monkeypatch.setenv("UGRO_DATA", str(tmp_path))
    agent = FakeAgent(tmp_path)
    yield agent
    agent.store.close()


def scrape(agent: Any) -> Figures:
    """Return what Prometheus would read; its own parser refuses what is not valid, and names told twice."""
    families = list(text_string_to_metric_families(exposition(agent).decode()))
    assert len({family.name for family in families}) == len(families)
    found: Figures = {}
    for family in families:
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, key
            found[key] = sample.value
    return found


def figure(found: Figures, name: str, /, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def start_job(agent: FakeAgent, name: str = "job", ranks: int = 2) -> None:
    store, node = agent.store, agent.cluster.nodes[0]
    slots = [Gpu(f"CPU-here-{name}-{number}", "here", number, "cpu", "CPU", 12.0) for number in range(ranks)]
    store.sync_node(node, slots, {})
    store.create_job(name, "ob", {"model": 'tiny\n"llama\\', "dataset": "d" * 500, "gpus": ranks})
    store.claim(name, Controller.me())
    placements = place(Request(gpus=ranks), ["here"], slots, {})
    store.start_attempt(name, placements, master_addr="127.0.0.1", master_port=29500, token="t0k3n")
    store.set_job(name, "running")


def report_metrics(name: str, *lines: dict[str, Any] | str) -> None:
    path = JobPaths(name).metrics
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        stream.writelines((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)


def test_a_running_job(agent: FakeAgent) -> None:
    start_job(agent)
    known = {"attempt": 1, "timestamp": "2026-01-20T12:05:30Z", "total_steps": 50}
    report_metrics(
        "job",
        {"rank": 0, "step": 1, "training_loss": 9.0, **known},
        {"rank": 0, "step": 7, "training_loss": 2.0, "throughput_tokens_sec": 100, "learning_rate": 1e-3, **known},
        {"rank": 1, "step": 6, "training_loss": 4.0, "throughput_tokens_sec": 50, "learning_rate": 1e-3, **known},
    )  # fmt: skip
    found = scrape(agent)
    of_job = {"ugro_job": "job"}
    assert figure(found, "ugro_job_loss", **of_job) == 3.0
    assert figure(found, "ugro_job_step", **of_job) == 7
    assert figure(found, "ugro_job_total_steps", **of_job) == 50
    assert figure(found, "ugro_job_throughput_tokens_per_second", **of_job) == 150
    assert figure(found, "ugro_job_learning_rate", **of_job) == 1e-3
    assert figure(found, "ugro_job_metrics_timestamp_seconds", **of_job) == 1768910730
    assert figure(found, "ugro_job_ranks", status="pending", **of_job) == 2
    info = next(dict(labels) for name, labels in found if name == "ugro_job_info")
    assert info == {**of_job, "user": "ob", "status": "running", "model": 'tiny\n"llama\\', "dataset": "d" * 100}
    assert figure(found, "ugro_jobs", status="running") == 1
    assert figure(found, "ugro_gpu_memory_bytes", node="here", gpu="0", uuid="CPU-here-job-0", name="CPU") == 12 * 2**30


def test_a_new_attempt_counts_alone_and_losses_that_are_none(agent: FakeAgent) -> None:
    start_job(agent, ranks=4)
    report_metrics(
        "job",
        {"rank": 0, "attempt": 1, "step": 90, "training_loss": 1.0},
        {"rank": 1, "attempt": 2, "step": 10, "training_loss": None, "nonfinite": ["training_loss"]},
        '{"rank": 2, "attempt": 2, "step": 1' + "0" * 400 + "}",
        '{"rank": [], "attempt": 2, "step": 3}', "not json", '"x"', "{" * 5000, '{"rank": 3, "timestamp": "never"}',
    )  # fmt: skip
    found = scrape(agent)
    assert math.isnan(figure(found, "ugro_job_loss", ugro_job="job"))
    assert figure(found, "ugro_job_step", ugro_job="job") == math.inf


def test_jobs_that_ended_leave_no_series_but_lately_failed_ones(agent: FakeAgent) -> None:
    start_job(agent)
    assert figure(scrape(agent), "ugro_jobs_ended_total", status="failed") == 0
    agent.store.set_job("job", "failed", "it broke", 1)
    found = scrape(agent)
    assert ("ugro_job_step", frozenset({("ugro_job", "job")})) not in found
    failed_at = figure(found, "ugro_job_failed_timestamp_seconds", ugro_job="job", user="ob")
    assert abs(time.time() - failed_at) < 3600
    assert figure(found, "ugro_jobs_ended_total", status="failed") == 1
    assert figure(found, "ugro_events_total", kind="job_status", severity="error") == 1


def test_a_label_for_a_hundred_jobs_and_no_more(agent: FakeAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prom_jobs, "MOST_JOBS", 3)
    for number in range(5):
        start_job(agent, f"job{number}", 1)
    found = scrape(agent)
    assert sorted(dict(labels)["ugro_job"] for name, labels in found if name == "ugro_job_info") == [
        "job2", "job3", "job4",
    ]  # fmt: skip
    assert figure(found, "ugro_jobs_left_out") == 2


def test_the_queue_and_who_is_starved(agent: FakeAgent) -> None:
    agent.store.create_job("held", "ob", {"hold": True})
    found = scrape(agent)
    assert figure(found, "ugro_queue_starved_seconds") == 0 < figure(found, "ugro_queue_wait_seconds_max")
    agent.store.create_job("due", "ob", {})
    found = scrape(agent)
    assert figure(found, "ugro_queue_starved_seconds") > 0
    assert (figure(found, "ugro_queue_length"), figure(found, "ugro_queue_jobs", state="held")) == (2, 1)
    start_job(agent)
    assert figure(scrape(agent), "ugro_queue_wait_seconds", quantile="0.9") >= 0


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (prometheus)")
def test_prometheus_finds_nothing_odd_in_them(agent: FakeAgent) -> None:
    start_job(agent)
    report_metrics("job", {"attempt": 1, "rank": 0, "step": 3, "training_loss": 2.5})
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=exposition(agent), capture_output=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_ranks_that_stand_still(agent: FakeAgent) -> None:
    start_job(agent)

    def still() -> float:
        return figure(scrape(agent), "ugro_job_ranks_standing_still", ugro_job="job")

    assert still() == 0
    for kind, rank, expected in (
        ("rank_frozen", 0, 1), ("rank_idle", 1, 2), ("rank_frozen", 1, 2), ("rank_moves", 0, 1),
    ):  # fmt: skip
        agent.store.add_event(kind, "text", job="job", rank=rank)
        assert still() == expected
    agent.store.set_job("job", "collecting")
    assert still() == 0


def test_readings_of_gpus_and_machines(agent: FakeAgent) -> None:
    reading = gpu_values.unknown(1) | {
        "uuid": "GPU-1", "util_percent": 87, "vram_used_gb": 3.5, "temperature_c": 71, "power_w": 120.5,
        "ecc": {"corrected": None, "uncorrected": 2}, "throttle_reasons": ["gpu_idle", "hw_thermal_slowdown"],
    }  # fmt: skip
    node = {
        "memory": {"total_gb": 8, "available_gb": 2}, "load": [1.5, 1, 1], "cpu_count": 4,
        "disks": [
            {"path": "/d", "free_gb": 5, "total_gb": 10}, {"path": "/d", "free_gb": 5, "total_gb": 10},
            {"path": "/hung", "free_gb": None, "total_gb": None, "error": "no answer"},
        ],
    }  # fmt: skip
    gpus = {"gpus": [reading, gpu_values.unknown(2) | {"uuid": "GPU-2", "lost": True}]}
    agent.reports = {"here": {"gpu": gpus, "node": node}, "gone": {}}
    found = scrape(agent)
    labels = {"node": "here", "gpu": "1", "uuid": "GPU-1"}
    for name, expected in (
        ("utilisation_ratio", 0.87), ("memory_used_bytes", 3.5 * 2**30), ("temperature_celsius", 71),
        ("power_watts", 120.5), ("lost", 0), ("throttled", 1),
    ):  # fmt: skip
        assert figure(found, f"ugro_gpu_{name}", **labels) == pytest.approx(expected)
    assert figure(found, "ugro_gpu_ecc_errors", kind="uncorrected", **labels) == 2
    assert figure(found, "ugro_gpu_lost", node="here", gpu="2", uuid="GPU-2") == 1
    assert figure(found, "ugro_node_disk_free_bytes", node="here", path="/d") == 5 * 2**30
    assert figure(found, "ugro_node_memory_available_bytes", node="here") == 2 * 2**30
    assert figure(found, "ugro_store_free_bytes") > 0


def test_states_and_findings_of_nodes(agent: FakeAgent) -> None:
    finding = {"check": "gpu_temperature", "severity": "critical"}
    agent.store.record_checks([Check("here", "127.0.0.1", "degraded", findings=[finding, finding], latency_ms=5.0)])
    agent.store.record_checks([Check("of-another-inventory", "10.0.0.9", "degraded", findings=[finding])])
    found = scrape(agent)
    assert figure(found, "ugro_node_state", node="here", state="degraded") == 1
    assert figure(found, "ugro_node_state", node="here", state="healthy") == 0
    assert figure(found, "ugro_node_findings", node="here", check="gpu_temperature", severity="critical") == 2
    assert not [labels for _, labels in found if ("node", "of-another-inventory") in labels]


def test_kinds_of_events_are_bounded(agent: FakeAgent) -> None:
    scrape(agent)
    for number in range(300):
        agent.store.add_event(f"made_up_{number}", "text")
    found = scrape(agent)
    kinds = [value for (name, _), value in found.items() if name == "ugro_events_total"]
    assert len(kinds) <= 201 and sum(kinds) == 300
    assert figure(found, "ugro_events_total", kind="other", severity="info") > 0
