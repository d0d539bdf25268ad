# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What `ugro launch --dry-run` says of the queue: the agent's word where there is one, else that of the own store."""

# ruff: noqa: F811 - the fixtures
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.api_server import Serve, Served, start  # noqa: F401 - a fixture
from tests.unit.queue_store import CLUSTER, known, submit  # noqa: F401 - a fixture
from ugro_py import users
from ugro_py.errors import NotFoundError, RightsError, UsageError
from ugro_py.queue.forecast import Forecast
from ugro_py.queue.forecast_doors import ask_forecast
from ugro_py.request.job import JobRequest
from ugro_py.state import Store

ME = users.me().user


def said(store: Store, **asked: Any) -> Forecast:
    return ask_forecast(store, CLUSTER, JobRequest("new", **asked), ME)


@pytest.fixture
def served(start: Serve, known: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Served:
    """The agent of somebody else, with a store of its own."""
    made = start(name="theirs")
    made.agent.cluster = CLUSTER
    for node in CLUSTER.nodes:
        made.agent.store.sync_node(node, [gpu for gpu in known.gpus() if gpu.node == node.name], {})
    monkeypatch.setenv("UGRO_DATA", str(tmp_path / "mine"))
    monkeypatch.setenv("UGRO_AGENT", str(made.path))
    return made


def test_the_agent_says_what_its_queue_would(served: Served, known: Store) -> None:
    theirs = served.agent.store
    assert said(known) == Forecast()
    assert said(known, hold=True).waits == f"held by {ME}"
    submit(theirs, "first", 3)
    assert said(known, after=("first",), script="no/such/file.py", args=("--x",)).waits == "after job first"
    with pytest.raises(NotFoundError, match="nowhere"):
        said(known, after=("nowhere",))
    with pytest.raises(UsageError):
        said(known, priority=1000)
    theirs.set_job("first", "failed", "so that one may see")
    assert "first, which it was to follow, has failed" in said(known, after=("first",)).fails
    theirs.set_account("user", ME, max_gpus=1)
    assert said(known, gpus=2).waits == f"quota: {ME} may use 1 GPU at once, the job asks for 2"
    assert said(known) == Forecast(gpus=1)
    theirs.set_account("user", ME, max_queued=0)
    with pytest.raises(RightsError, match="0 of 0 jobs"):
        said(known)
    assert [job.name for job in theirs.jobs()] == ["first"] and known.jobs() == []


@pytest.mark.parametrize("path", ["/v1/queue/never_heard_of", "/v1/jobs/foretold"])  # 404, 405
def test_one_that_is_too_old_or_gone_says_nothing(
    served: Served, known: Store, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("ugro_py.queue.forecast_doors._PATH", path)
    assert said(known, hold=True) == Forecast()
    served.close()
    assert said(known) == Forecast()


def test_without_an_agent_the_own_store_says_it(known: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UGRO_DATA", str(tmp_path))
    monkeypatch.delenv("UGRO_AGENT", raising=False)
    assert said(known, gpus=100) == Forecast()  # nothing is queued: the nodes themselves say what they have
    assert said(known, hold=True).waits == f"held by {ME}"
    submit(known, "line", 4, priority=90)
    assert "is used by job line" in said(known, gpus=1).waits  # which goes first
    known.set_job("line", "stopped")
    known.set_account("user", ME, max_gpus=1)
    assert said(known) == Forecast(gpus=1)
