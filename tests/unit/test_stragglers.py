# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Which rank the others wait for, and why: from metrics and samples as a job leaves them in the central store."""

from __future__ import annotations

import json
import re

import pytest
from click.testing import CliRunner

from tests.unit.job_store import JOB, NODES, JobStore, job_store  # noqa: F401 - a fixture
from tests.unit.straggler_world import STEPS, TRANSFER_S, on_gpus, report, sample, train
from ugro_py import stragglers
from ugro_py.cli import cli
from ugro_py.errors import NotFoundError, UsageError
from ugro_py.stragglers.words import link, seconds
from ugro_py.worth.prediction import Link


def test_where_the_time_of_a_step_goes(job_store: JobStore) -> None:  # noqa: F811
    train(job_store, compute=(0.10, 0.10, 0.10), data=(0.01, 0.01, 0.01))
    found = report(job_store)
    assert (found.timed, found.steps, found.gradient_bytes, found.slowest) == (True, STEPS - 1, 4_000_000, None)
    assert found.step_s == pytest.approx(0.13) and found.transfer_s == pytest.approx(TRANSFER_S)
    assert found.shares == pytest.approx({"compute": 10 / 13, "data": 1 / 13, "peers": 0.0, "transfer": 2 / 13})
    assert found.bottleneck == "compute" and "no rank stands out" in found.verdict
    assert [rank.node for rank in found.ranks] == list(NODES)
    assert found.ranks[1].compute_s == pytest.approx(0.10) and found.ranks[1].cores == pytest.approx(1.0)


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
    job_store.end()
    heading, first = CliRunner().invoke(cli, ["stragglers", JOB], catch_exceptions=False).stdout.splitlines()[:2]
    assert re.split(r"\s{2,}", heading.strip())[2] == "step s" and re.split(r"\s{2,}", first.strip())[2] == "1"


def test_a_gang_of_which_one_rank_reports_is_not_called_one_rank(job_store: JobStore) -> None:  # noqa: F811
    attempt = job_store.attempt()
    for step in range(1, 11):
        job_store.step(attempt, 0, step, 3.0)
    assert "only rank 0 of 3 reports its steps" in report(job_store).verdict
    job_store.end()
    with pytest.raises(UsageError, match="all ranks that report their steps are on gpu-master"):
        CliRunner().invoke(cli, ["worth", JOB], catch_exceptions=False)


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


def test_each_figure_stands_below_its_heading(job_store: JobStore) -> None:  # noqa: F811
    attempt = train(job_store, compute=(0.10, 0.15, 0.10), cores=(1.0, 0.5, 1.0))
    on_gpus(attempt)
    job_store.end()
    heading, _, second = CliRunner().invoke(cli, ["stragglers", JOB], catch_exceptions=False).stdout.splitlines()[:3]
    names = ("rank", "node", "step ms", "p95", "compute", "data", "waits", "for peers", "cores", "slowest")
    assert re.split(r"\s{2,}", heading.strip()) == list(names)
    assert re.split(r"\s{2,}", second.strip()) == ["1", "gpu1:0", "170", "170", "150", "0", "20", "0", "0.50", "100 %"]


def test_figures_are_written_out_for_people() -> None:
    assert [seconds(value) for value in (0.0831, 0.9997, 1.52, 1234.0)] == ["83.1 ms", "1,000 ms", "1.52 s", "1,234 s"]
    assert link(Link("gpu1", "gpu2", 2313.8, 0.005, 0.0)) == "gpu1 to gpu2, 2,314 MB/s"
