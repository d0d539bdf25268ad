# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What many ask for or what is long: the cluster now is made once for all, and all jobs come in parts."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import json
import threading
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner
from sqlalchemy import insert

from tests.unit.api_server import Serve, start  # noqa: F401 - a fixture
from ugro_py import now
from ugro_py.api.client import Client
from ugro_py.api.routes import nodes
from ugro_py.commands.ps import command
from ugro_py.errors import NotFoundError, UsageError
from ugro_py.state.models import jobs

JOBS = 2005


@pytest.fixture
def asking(start: Serve) -> Client:
    """A client of an agent with many jobs."""
    served = start()
    at = datetime.now(UTC)
    rows = [
        {"name": f"job-{number}", "user": "ana", "status": "pending", "request": {}, "created_at": at}
        for number in range(JOBS)
    ]
    with served.agent.store.database.write() as connection:
        connection.execute(insert(jobs), rows)
    return Client(served.path)


def test_all_jobs_come_in_parts_and_each_once(asking: Client) -> None:
    names = [f"job-{number}" for number in reversed(range(JOBS))]
    first = asking.get("/v1/jobs", all=True)
    assert [job["job"] for job in first] == names[:1000]
    asking.post("/v1/jobs/job-2004/hold")
    after = asking.get("/v1/jobs", all=True, before=first[-1]["job"], limit=7)
    assert [job["job"] for job in after] == names[1000:1007]
    assert asking.get("/v1/jobs", all=True, before="job-0") == []
    assert [job["job"] for job in asking.jobs(everything=True)] == names
    shown = json.loads(CliRunner().invoke(command, ["--all", "--json"], catch_exceptions=False).output)
    assert [job["job"] for job in shown] == names
    # Those that have not ended are never cut: nobody must miss one that runs.
    assert [job["job"] for job in asking.get("/v1/jobs")] == names
    for wrong in (0, 10_001, "x"):
        with pytest.raises(UsageError):
            asking.get("/v1/jobs", all=True, limit=wrong)
    with pytest.raises(NotFoundError):
        asking.get("/v1/jobs", all=True, before="nope")


def test_the_cluster_now_is_made_once_for_all_who_ask(start: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    served = start()
    served.agent.store.create_job("one", "ana", {"name": "one"})
    made, answers = [], []

    def counted(*args: object) -> object:
        made.append(threading.get_ident())
        return now.snapshot(*args)  # type: ignore[arg-type]

    clock = [1000.0]
    monkeypatch.setattr(nodes, "snapshot", counted)
    monkeypatch.setattr(served.app.state.live.shared, "_clock", lambda: clock[0])

    def ask() -> None:
        answers.append(Client(served.path).get("/v1/now"))

    threads = [threading.Thread(target=ask) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(made) == 1 and len(answers) == 30
    assert all(answer == answers[0] for answer in answers) and answers[0]["jobs"][0]["job"] == "one"
    served.agent.store.create_job("two", "ana", {"name": "two"})
    clock[0] += 1.0  # what is older than that is not shown
    ask()
    assert len(made) == 2 and {job["job"] for job in answers[-1]["jobs"]} == {"one", "two"}
