# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Tables of ranks on terminals of any width: a column is whole or not there, and a loss that is NaN is said."""

from __future__ import annotations

import json
import os
import re

import pytest
from click.testing import CliRunner

from tests.integration.support import UGRO
from tests.terminal import Terminal
from tests.unit.api_server import Serve, start  # noqa: F401 - a fixture
from tests.unit.job_store import JOB, JobStore, job_store  # noqa: F401 - a fixture
from tests.unit.straggler_world import train
from tests.unit.web_jobs import Job, page
from ugro_py.cli import cli
from ugro_py.rank_figures import figure
from ugro_py.top import widgets


@pytest.fixture
def ended(job_store: JobStore) -> JobStore:  # noqa: F811
    attempt = train(job_store, compute=(0.10, 0.10, 0.10), data=(0.001, 0.080, 0.001))
    for rank, loss in enumerate((2.34567, None, 1234567.5)):
        lost = {"nonfinite": ["training_loss"]} if loss is None else {}
        job_store.step(attempt, rank, 1_000_000, loss, throughput_tokens_sec=123456.0, **lost)
    job_store.end()
    return job_store


def seen(columns: int, *words: str) -> str:
    with Terminal([UGRO, *words], os.environ, columns, 100) as terminal:
        assert terminal.end(timeout_s=120) == 0
        return str(terminal.text)


def told(shown: str, left_out: str) -> bool:
    """Tell whether a screen names these columns as left out; its lines may be broken anywhere."""
    return bool(left_out) and "".join(f"too narrow for {left_out}".split()) in "".join(shown.split())


@pytest.mark.parametrize(("columns", "left_out"), [(40, "node, GPU, pid, step, tokens/s"), (80, "GPU, pid"), (120, "")])
def test_ranks_of_a_job(ended: JobStore, columns: int, left_out: str) -> None:
    shown = seen(columns, "status", JOB)
    for word in ("rank", "status", "loss", "2.346", "1,234,568", "NaN", *(["123,456", "step"] if columns > 40 else [])):
        assert word in shown, "in one piece"
    assert told(shown, left_out) is bool(left_out) is ("too narrow" in shown)
    assert "…" not in shown


@pytest.mark.parametrize(("columns", "left_out"), [(40, "p95, compute, data, waits, for peers, cores"), (80, "")])
def test_ranks_that_wait_for_each_other(job_store: JobStore, columns: int, left_out: str) -> None:  # noqa: F811
    train(job_store, compute=(0.10, 0.10, 0.10), data=(0.001, 0.080, 0.001))
    job_store.end()
    shown = seen(columns, "stragglers", JOB)
    (head,) = [line for line in shown.splitlines() if line.split()[:2] == ["rank", "node"]]
    rows = [line for line in shown.splitlines() if re.match(r" +[0-9]  gpu", line)]
    assert len(rows) == 3 and all(row.endswith(" %") and "200" in row for row in rows)
    assert head.split()[-1] == "slowest" and "step ms" in head
    assert told(shown, left_out) is bool(left_out) is ("too narrow" in shown)
    assert ("p95" in head) is (columns == 80) and "…" not in head + "".join(rows)


def test_a_loss_that_is_nan_is_said(ended: JobStore) -> None:
    shown = CliRunner().invoke(cli, ["status", JOB], catch_exceptions=False).stdout
    assert "NaN" in shown and "2.346" in shown and "too narrow" not in shown
    ranks = json.loads(CliRunner().invoke(cli, ["status", JOB, "--json"], catch_exceptions=False).stdout)["ranks"]
    assert [figure(rank["metrics"], "training_loss") for rank in ranks] == ["2.346", "NaN", "1,234,568"]
    table = widgets.rank_table([{**rank, "metrics": rank["metrics"]} for rank in ranks])
    assert [str(cell) for cell in table.columns[4].cells] == ["2.346", "NaN", "1,234,568"]
    for odd in ("training_loss", 7, None, {"training_loss": 1}, []):
        assert figure({"nonfinite": odd}, "training_loss") == "-", "a line may hold anything"


def test_the_page_of_an_experiment_says_it_too(start: Serve) -> None:  # noqa: F811
    served = start()
    job = Job(served)
    attempt = job.start()
    job.tell(attempt, 0, 1, training_loss=None, nonfinite=["training_loss"])
    job.tell(attempt, 1, 1, training_loss=2.5, nonfinite=7)
    rows = re.findall(r'<tr><th scope="row" class="num">.*?</tr>', page(served, "/experiments/first"), re.DOTALL)
    assert [re.findall(r">(NaN|2\.5)<", row) for row in rows] == [["NaN"], ["2.5"]]
