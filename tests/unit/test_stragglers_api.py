# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Stragglers and the worth of nodes for somebody who has no store: the agent, on a real socket, tells them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.unit.api_server import Served
from tests.unit.job_store import JOB, NODES, JobStore
from tests.unit.test_stragglers import train
from ugro_py import metrics, stragglers
from ugro_py.api.client import Client, job_path
from ugro_py.cli import cli
from ugro_py.errors import NotFoundError, UsageError
from ugro_py.worth import links
from ugro_py.worth.prediction import Link


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobStore]:
    """A job of an agent whose socket is not in the caller's own store."""
    monkeypatch.setenv("UGRO_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("UGRO_AGENT", str(tmp_path / "agent.sock"))
    for name in ("UGRO_INVENTORY", "UGRO_MASTER", "UGRO_DB"):
        monkeypatch.delenv(name, raising=False)
    served = Served(tmp_path)
    yield JobStore(served.agent.store)
    served.close()


def know_the_network() -> None:
    links.keep(
        [Link(one, other, 100.0, 0.1, time.time()) for one in NODES for other in NODES if one != other],
    )


def test_the_agent_tells_what_the_store_does(jobs: JobStore, tmp_path: Path) -> None:
    train(jobs, compute=(0.10, 0.10, 0.10), data=(0.001, 0.080, 0.001))
    jobs.end()
    know_the_network()
    answer = Client(tmp_path / "agent.sock").get(job_path(JOB, "stragglers"))
    assert answer["report"]["slowest"]["node"] == "gpu1"
    assert len(answer["report"]["worth"]["links"]) == 6
    told = CliRunner().invoke(cli, ["stragglers", JOB, "--json"], catch_exceptions=False)
    assert json.loads(told.stdout) == answer["report"]
    shown = CliRunner().invoke(cli, ["stragglers", JOB], catch_exceptions=False).stdout
    assert all(line in shown for line in answer["lines"])
    assert "without gpu1" in shown and "leave it out" in shown


def test_what_is_known_of_the_network_is_not_measured_again(jobs: JobStore) -> None:
    train(jobs, compute=(0.10, 0.10, 0.10))
    know_the_network()
    jobs.end()
    found = json.loads(CliRunner().invoke(cli, ["worth", JOB, "--json"], catch_exceptions=False).stdout)
    assert [each["node"] for each in found["without"]] == list(NODES)
    assert found["gradient_bytes"] == 4_000_000 and found["assumptions"]


def test_a_job_that_runs_is_not_disturbed_and_one_that_tells_nothing_not_guessed_at(jobs: JobStore) -> None:
    one = train(jobs, compute=(0.10, 0.10, 0.10))
    metrics.rebuild(jobs.paths)
    running = CliRunner().invoke(cli, ["worth", JOB])
    assert isinstance(running.exception, UsageError) and "the job uses it now" in str(running.exception)
    jobs.store.set_attempt(JOB, one, status="failed")
    two = jobs.attempt()
    for rank in range(3):
        jobs.step(two, rank, 1, 3.0)
    jobs.end()
    silent = CliRunner().invoke(cli, ["worth", JOB])
    assert isinstance(silent.exception, UsageError) and "does not tell how long" in str(silent.exception)


def test_nobody_is_told_of_a_job_that_there_is_not(jobs: JobStore, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        Client(tmp_path / "agent.sock").get(job_path("no_such_job", "stragglers"))
    done = CliRunner().invoke(cli, ["stragglers", "../../etc"])
    assert done.exception is not None and not isinstance(done.exception, SystemExit)


def test_an_attempt_that_there_was_not_is_said_so(jobs: JobStore) -> None:
    train(jobs, compute=(0.10, 0.10, 0.10))
    jobs.end()
    done = CliRunner().invoke(cli, ["stragglers", JOB, "--attempt", "2"])
    assert isinstance(done.exception, NotFoundError) and f"attempt 2 of job {JOB}: it had 1" in str(done.exception)


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:10Z", "9999-12-31T23:59:59Z"])
def test_a_time_that_no_calendar_has_is_no_fault(jobs: JobStore, moment: str) -> None:
    attempt = jobs.attempt()
    for rank in (0, 1, 2):
        jobs.step(attempt, rank, 1, 2.0, timestamp=moment)
    metrics.rebuild(jobs.paths)
    assert [row["rank"] for row in stragglers.told(JOB, jobs.store)["report"]["ranks"]] == [0, 1, 2]
