# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Which rank the others wait for, and why: from metrics and samples as a job leaves them in the central store."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ugro.cluster.plugins.module_utils import gpu_findings, gpu_values
from click.testing import CliRunner
from sqlalchemy import update

from tests.unit.job_store import JOB, NODES, JobStore, job_store  # noqa: F401 - a fixture
from ugro_py import stragglers
from ugro_py.cli import cli
from ugro_py.cluster import Cluster, Node
from ugro_py.errors import NotFoundError
from ugro_py.plan import Gang
from ugro_py.saved import save_gang
from ugro_py.scheduler import Gpu, Placement
from ugro_py.state._health import Check
from ugro_py.state.models import health_checks

STEPS = 20
TRANSFER_S = 0.02
CARDS = ("NVIDIA GeForce RTX 3090",) * 3


def train(
    jobs: JobStore,
    compute: tuple[float, ...],
    data: tuple[float, ...] = (0.0, 0.0, 0.0),
    cores: tuple[float, ...] = (1.0, 1.0, 1.0),
    transfer: float = TRANSFER_S,
) -> int:
    """A gang in step: who is done early waits for who comes last, then the gradients travel."""
    attempt = jobs.attempt()
    own = [work + load for work, load in zip(compute, data, strict=True)]
    for step in range(1, STEPS + 1):
        for rank in range(3):
            jobs.step(
                attempt, rank, step, 3.0,
                step_time_s=max(own) + transfer, wait_time_s=max(own) - own[rank] + transfer, data_time_s=data[rank],
                cpu_time_s=cores[rank] * own[rank], **({"gradient_bytes": 4_000_000} if step == 1 else {}),
            )  # fmt: skip
    return attempt


def on_gpus(attempt: int, cards: tuple[str, ...] = CARDS) -> None:
    """Keep the gang as the engine does: each rank has a GPU of its own."""
    places = tuple(
        Placement(rank, name, 0, Gpu(f"GPU-{rank}", name, 0, "cuda", cards[rank], 24.0))
        for rank, name in enumerate(NODES)
    )
    cluster = Cluster("c", tuple(Node(name, f"10.0.0.{index}") for index, name in enumerate(NODES)), Path("hosts.yml"))
    save_gang(Gang(JOB, attempt, places, "10.0.0.0", 29500, "t0k3n"), cluster)


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


def sample(jobs: JobStore, attempt: int, rank: int, cpu: float = 20.0, **gpu: object) -> None:
    for t in range(1001, 1001 + STEPS):
        gpus = [{"uuid": f"GPU-{rank}", **gpu}] if gpu else []
        jobs.event(attempt, NODES[rank], t, "sample", cpu_percent=cpu, mem_used_gb=4.0, gpus=gpus)


def report(jobs: JobStore) -> stragglers.Report:
    jobs.end()
    return stragglers.report(JOB, jobs.store)


def test_where_the_time_of_a_step_goes(job_store: JobStore) -> None:  # noqa: F811
    train(job_store, compute=(0.10, 0.10, 0.10), data=(0.01, 0.01, 0.01))
    found = report(job_store)
    assert (found.timed, found.steps, found.gradient_bytes, found.slowest) == (True, STEPS - 1, 4_000_000, None)
    assert found.step_s == pytest.approx(0.13) and found.transfer_s == pytest.approx(TRANSFER_S)
    assert found.shares == pytest.approx({"compute": 10 / 13, "data": 1 / 13, "peers": 0.0, "transfer": 2 / 13})
    assert found.bottleneck == "compute" and "no rank stands out" in found.verdict
    assert [rank.node for rank in found.ranks] == list(NODES)
    assert found.ranks[1].compute_s == pytest.approx(0.10) and found.ranks[1].cores == pytest.approx(1.0)


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
    seen = stragglers.window(JOB, job_store.store)
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


def test_slow_data(job_store: JobStore) -> None:  # noqa: F811
    train(job_store, compute=(0.10, 0.10, 0.10), data=(0.001, 0.080, 0.001))
    slowest = report(job_store).slowest
    assert slowest is not None and slowest.node == "gpu1" and slowest.reasons[0].kind == "data"
    assert slowest.reasons[0].text == "it waits 80 ms a step for its data, the others 1 ms"


def test_a_rank_that_gets_too_little_of_a_busy_cpu(job_store: JobStore) -> None:  # noqa: F811
    attempt = train(job_store, compute=(0.10, 0.25, 0.10), cores=(1.0, 0.4, 1.0))
    for rank, load in enumerate((30.0, 99.0, 35.0)):
        sample(job_store, attempt, rank, cpu=load)
    slowest = report(job_store).slowest
    assert slowest is not None and slowest.reasons[0].kind == "cpu_busy"
    assert slowest.reasons[0].text == (
        "the CPU of gpu1 is 99 % busy: its process gets 0.40 of a core while it works, the others 1.00"
    )


def test_a_rank_that_gets_too_little_of_an_idle_cpu(job_store: JobStore) -> None:  # noqa: F811
    attempt = train(job_store, compute=(0.10, 0.25, 0.10), cores=(1.0, 0.4, 1.0))
    for rank in range(3):
        sample(job_store, attempt, rank, cpu=30.0)
    slowest = report(job_store).slowest
    assert slowest is not None and slowest.reasons[0].kind == "cpu_limited"


def test_a_slower_processor(job_store: JobStore) -> None:  # noqa: F811
    train(job_store, compute=(0.10, 0.10, 0.25))
    slowest = report(job_store).slowest
    assert slowest is not None and [reason.kind for reason in slowest.reasons] == ["slower_cpu"]


def test_somebody_elses_process_as_the_health_sweep_saw_it(job_store: JobStore) -> None:  # noqa: F811
    """What it saw in the time of these steps counts; what it sees now does not, nor does it to a rank without a GPU."""
    attempt = train(job_store, compute=(0.10, 0.15, 0.10))
    job_store.end()
    seen = stragglers.window(JOB, job_store.store)
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


def test_a_rank_that_nothing_explains(job_store: JobStore) -> None:  # noqa: F811
    attempt = train(job_store, compute=(0.10, 0.10, 0.25), cores=(1.0, 1.0, 0.95))
    on_gpus(attempt)
    slowest = report(job_store).slowest
    assert slowest is not None and [reason.kind for reason in slowest.reasons] == ["unknown"]
    assert "ugro check gpu2 --deep" in slowest.reasons[0].next_step


def test_the_network_is_what_a_step_waits_for(job_store: JobStore) -> None:  # noqa: F811
    train(job_store, compute=(0.10, 0.10, 0.102), transfer=0.2)
    found = report(job_store)
    assert found.bottleneck == "network" and found.slowest is None
    assert "66 % of a step goes into moving gradients" in found.verdict and "ugro worth" in found.verdict


def test_all_wait_for_data(job_store: JobStore) -> None:  # noqa: F811
    train(job_store, compute=(0.10, 0.10, 0.10), data=(0.05, 0.05, 0.05))
    found = report(job_store)
    assert found.bottleneck == "data" and "--num-workers" in found.verdict


def test_lines_without_times_give_the_pace_alone(job_store: JobStore) -> None:  # noqa: F811
    attempt = job_store.attempt()
    for step in range(1, 11):
        for rank in range(3):
            job_store.step(attempt, rank, step, 3.0)
    found = report(job_store)
    assert not found.timed and found.slowest is None and found.transfer_s is None
    assert found.step_s == pytest.approx(1.0) and found.ranks[0].step_p95_s is None
    assert "does not tell how long each waits" in found.verdict


def test_ranks_that_train_alone_differ_by_their_pace(job_store: JobStore) -> None:  # noqa: F811
    attempt = job_store.attempt()
    for step in range(1, 11):
        for rank, pace in enumerate((1, 1, 2)):
            job_store.event(
                attempt, NODES[rank], 1000.0 + pace * step, "metrics", rank=rank, step=step, training_loss=1.0
            )
    slowest = report(job_store).slowest
    assert slowest is not None and slowest.node == "gpu2" and slowest.behind == pytest.approx(1.0)


def test_the_newest_attempt_and_its_newest_steps_count(job_store: JobStore) -> None:  # noqa: F811
    one = train(job_store, compute=(0.10, 0.10, 0.40))
    job_store.store.set_attempt(JOB, one, status="failed")
    train(job_store, compute=(0.10, 0.10, 0.10))
    assert report(job_store).slowest is None
    first = stragglers.report(JOB, job_store.store, attempt=one)
    assert first.attempt == one and first.slowest is not None and first.slowest.node == "gpu2"


def test_values_that_are_no_numbers_do_no_harm(job_store: JobStore) -> None:  # noqa: F811
    attempt = train(job_store, compute=(0.10, 0.10, 0.10))
    for rank in range(3):
        job_store.step(attempt, rank, STEPS + 1, None, step_time_s=None, wait_time_s="fast", nonfinite=["step_time_s"])
        job_store.step(attempt, rank, STEPS + 2, None, step_time_s=-1e308, wait_time_s=1e308, gradient_bytes=-7)
    job_store.event(attempt, NODES[0], 1002.0, "sample", cpu_percent="all of it", gpus=[None, {"uuid": None}])
    job_store.event(attempt, NODES[2], 1002.0, "sample", cpu_percent=float("inf"), gpus=[{"temperature_c": 1e999}])
    job_store.event(attempt, NODES[1], 1002.0, "sample", gpus={"uuid": "GPU-1"})
    found = report(job_store)
    assert found.step_s == pytest.approx(0.12) and found.slowest is None
    json.dumps(found.to_json(), allow_nan=False)


def test_a_job_without_metrics(job_store: JobStore) -> None:  # noqa: F811
    job_store.attempt()
    found = report(job_store)
    assert found.ranks == () and found.verdict == "there are no metrics yet"


def test_a_job_that_there_is_not(job_store: JobStore) -> None:  # noqa: F811
    with pytest.raises(NotFoundError):
        stragglers.report("no_such_job", job_store.store)


def test_the_verb(job_store: JobStore) -> None:  # noqa: F811
    train(job_store, compute=(0.10, 0.10, 0.10), data=(0.001, 0.080, 0.001))
    job_store.end()
    shown = CliRunner().invoke(cli, ["stragglers", JOB], catch_exceptions=False)
    assert shown.exit_code == 0
    assert "gpu1 is the slowest" in shown.output and "to do: give it more `--num-workers`" in shown.output
    asked = CliRunner().invoke(cli, ["stragglers", JOB, "--json"], catch_exceptions=False)
    answer = json.loads(asked.output)
    assert answer["slowest"]["node"] == "gpu1" and answer["ranks"][1]["data_s"] == pytest.approx(0.08)
    assert answer["bottleneck"] == "straggler" and answer["worth"] is None
