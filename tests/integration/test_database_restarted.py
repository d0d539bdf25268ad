# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL is killed under jobs, SQLite is locked: they run on, end, and have every line of metrics once."""

from __future__ import annotations

import http.client
import socket
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.support import Ugro, finish, processes_here, wait_until
from tests.postgres import Postgres, running_postgres
from ugro_py.agent.lease import GIVE_UP_S
from ugro_py.state import Store

pytestmark = pytest.mark.slow

# Does steps until the file named by its argument is there, and a few more.
STEPS = """
import json, os, pathlib, sys, time
with open(os.environ["UGRO_METRICS_FILE"], "a", buffering=1) as metrics:
    step = left = 0
    while left < 5:
        step += 1
        left += pathlib.Path(sys.argv[1]).exists()
        metrics.write(json.dumps({"step": step, "training_loss": 1 / step}) + chr(10))
        time.sleep(0.05)
print("did", step, flush=True)
"""


class OnServer(Ugro):
    """`ugro` on this machine's slots, its store on a PostgreSQL that can be killed."""

    server: Postgres

    def store(self) -> Store:
        return Store.open(self.server.url)

    def steps(self, job: str) -> Counter[tuple[int, int]]:
        """Return how often each step of each rank is in metrics.jsonl."""
        return Counter((line["rank"], line["step"]) for line in self.metrics(job))

    def away(self, seconds: float) -> float:
        """Kill the server, and start it again after a while; return how long it was away."""
        begin = time.monotonic()
        self.server.kill()
        time.sleep(seconds)
        self.server.start()
        return time.monotonic() - begin

    def check_every_line_is_there_once(self, job: str) -> None:
        done = [int(self.log(job, rank).split()[-1]) for rank in (0, 1)]
        expected = Counter((rank, step) for rank in (0, 1) for step in range(1, done[rank] + 1))
        assert self.steps(job) == expected

    def outages(self) -> int:
        with self.store() as store:
            return sum(event.kind == "database_away" for event in store.events(limit=1000))


@pytest.fixture
def ugro(home: Path, here: Path, tmp_path: Path) -> Iterator[OnServer]:
    with running_postgres() as server:
        ugro = OnServer(home, tmp_path / "data", here)
        ugro.server = server
        ugro.env_more = {"UGRO_DB": server.url}
        ugro.data.mkdir(mode=0o700)
        (tmp_path / "steps.py").write_text(STEPS)
        yield ugro
        for process in ugro._processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def test_a_foreground_launch_outlives_its_database(ugro: OnServer, tmp_path: Path) -> None:
    script, go = tmp_path / "steps.py", tmp_path / "go"
    launch = ugro.start("launch", "--name", "one", "--nodes", 2, "--script", script, "--", go)
    wait_until(lambda: len(ugro.steps("one")) > 20, "it does steps")
    ugro.server.kill()
    before = len(ugro.steps("one"))
    wait_until(lambda: len(ugro.steps("one")) > before + 60, "lines arrive without the database")
    go.touch()  # it ends without the database, and what that means is recorded when it is back
    wait_until(lambda: all("did" in ugro.log("one", rank) for rank in (0, 1)), "the ranks end")
    time.sleep(1)
    assert launch.poll() is None
    ugro.server.start()
    finish(launch)
    assert ugro.job("one").status == "completed"
    ugro.check_every_line_is_there_once("one")
    assert ugro.busy() == {}
    assert ugro.outages() == 1


def test_jobs_of_the_agent_outlive_a_database_that_is_away_for_longer_than_its_lease(
    ugro: OnServer, tmp_path: Path
) -> None:
    script, go = tmp_path / "steps.py", tmp_path / "go"
    agent = ugro.start("agent")

    def term() -> int:
        with ugro.store() as store:
            lease = store.lease()
        return lease.term if lease and lease.held and lease.holder.pid == agent.pid else 0

    wait_until(term, "the agent acts", 60)
    ugro.run("launch", "-d", "--name", "one", "--nodes", 2, "--script", script, "--", go)
    wait_until(lambda: len(ugro.steps("one")) > 20, "it does steps")
    ranks = processes_here(ugro.token("one"))

    was_away = ugro.away(0.5)
    before = len(ugro.steps("one"))
    wait_until(lambda: len(ugro.steps("one")) > before + 20, "it is followed")
    first = wait_until(term, "the agent acts", 60)
    # A server that took long to start, on a busy machine, was away for longer.
    assert first == 1 or was_away > GIVE_UP_S / 2, f"{was_away:.1f} s cost the lease"

    ugro.away(GIVE_UP_S + 4)
    wait_until(lambda: term() == first + 1, "the agent acts again", 60)
    before = len(ugro.steps("one"))
    wait_until(lambda: len(ugro.steps("one")) > before + 20, "it is followed again")
    assert agent.poll() is None
    assert set(ranks) <= set(processes_here(ugro.token("one"))), "nothing of it was stopped"
    go.touch()
    row = ugro.wait_for("one", "completed", "failed")
    assert row.status == "completed", row.reason
    ugro.check_every_line_is_there_once("one")
    with ugro.store() as store:
        attempt = store.attempt("one")
    assert attempt is not None and attempt.number == 1
    wait_until(lambda: ugro.busy() == {}, "its GPUs are free")
    agent.terminate()
    assert agent.wait(20) == 0


class _OverSocket(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _asked(path: Path) -> float:
    """Return how long the agent took to answer what needs no database."""
    begin = time.monotonic()
    connection = _OverSocket(path)
    connection.request("GET", "/v1/openapi.json")
    assert connection.getresponse().read()
    connection.close()
    return time.monotonic() - begin


def test_a_locked_file_holds_up_neither_the_agents_streams_nor_its_api_nor_its_lease(
    ugro_here: Ugro, tmp_path: Path
) -> None:
    ugro, go = ugro_here, tmp_path / "go"
    code = tmp_path / "code"
    code.mkdir()
    (code / "steps.py").write_text(STEPS)
    agent = ugro.start("agent")
    api = ugro.data / "agent.sock"
    wait_until(api.exists, "the agent listens", 60)
    ugro.run("launch", "-d", "--name", "one", "--nodes", 2, "--script", code / "steps.py", "--", go)
    metrics = ugro.folder("one") / "metrics.jsonl"
    wait_until(lambda: metrics.exists() and metrics.stat().st_size > 3000, "it does steps")
    ugro.wait_for("one", "running")
    with ugro.store() as store:
        before = store.lease()
    _asked(api)
    other = sqlite3.connect(ugro.data / "ugro.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    answers, gaps = [0.0], [0.0]
    try:
        size, seen, until = metrics.stat().st_size, time.monotonic(), time.monotonic() + GIVE_UP_S + 4
        while (now := time.monotonic()) < until:
            answers.append(_asked(api))
            if metrics.stat().st_size != size:
                gaps.append(now - seen)
                size, seen = metrics.stat().st_size, now
            time.sleep(0.05)
        gaps.append(time.monotonic() - seen)
    finally:
        other.execute("ROLLBACK")
        other.close()
    assert max(answers) < GIVE_UP_S, answers  # measured on an idle machine: 0.04 s
    assert max(gaps) < GIVE_UP_S, gaps  # 0.6 s
    go.touch()
    assert ugro.wait_for("one", "completed", "failed").status == "completed"
    with ugro.store() as store:
        after = store.lease()
    assert before and after and after.term == before.term
    agent.terminate()
    assert agent.wait(20) == 0
