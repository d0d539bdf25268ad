# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Two agents of two hosts on one PostgreSQL: one acts, the other follows it when it is frozen or killed.

A host is a process tree with a host name of its own here (a UTS namespace): that the other agent is gone cannot be
seen from there, only that it does not renew its lease.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.support import UGRO, Ugro, processes_here, wait_until
from tests.postgres import running_postgres
from ugro_py.agent.lease import DURATION_S
from ugro_py.state import Store

pytestmark = pytest.mark.slow

HERE = socket.gethostname()

# Does steps until it is told to end, and a few more.
STEPS = """
import json, os, pathlib, sys, time
with open(os.environ["UGRO_METRICS_FILE"], "a", buffering=1) as metrics:
    step = left = 0
    while left < 5:
        step += 1
        left += pathlib.Path(sys.argv[1], "go").exists()
        metrics.write(json.dumps({"step": step, "training_loss": 1 / step}) + chr(10))
        print("step", step, flush=True)
        time.sleep(0.05)
print("did", step, flush=True)
"""


class OnPostgres(Ugro):
    """`ugro` on a PostgreSQL, on this machine's slots."""

    url = ""

    @property
    def env(self) -> dict[str, str]:
        return super().env | {"UGRO_DB": self.url}

    def store(self) -> Store:
        return Store.open(self.url)

    def agent(self, host: str, log: Path, *options: str) -> subprocess.Popen[bytes]:
        """Start an agent on a host."""
        command = [str(UGRO), "agent", *options]
        if host != HERE:
            command = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', host, *command]
        with log.open("wb") as stream:
            return subprocess.Popen(
                command, env=self.env, cwd=self.home, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
                start_new_session=True,
            )  # fmt: skip

    def holder(self) -> tuple[str, int] | None:
        """Return host and process of who holds the lease."""
        with self.store() as store:
            lease = store.lease()
        return (lease.holder.host, lease.holder.pid) if lease and lease.held else None


@pytest.fixture
def two(home: Path, tmp_path: Path) -> Iterator[OnPostgres]:
    if not shutil.which("unshare") or subprocess.run(["unshare", "--uts", "true"], check=False).returncode:
        pytest.skip("a host name of its own takes root and the program unshare")
    with running_postgres() as server:
        ugro = OnPostgres(home, tmp_path / "data")
        ugro.url = server.url
        ugro.data.mkdir(mode=0o700)
        yield ugro


def test_a_frozen_agent_and_a_killed_one_are_followed_and_disturb_no_job(two: OnPostgres) -> None:
    agents: list[subprocess.Popen[bytes]] = []

    def start(host: str, *options: str) -> subprocess.Popen[bytes]:
        agents.append(two.agent(host, two.data.parent / f"agent{len(agents)}.log", *options))
        return agents[-1]

    def waits(number: int) -> bool:
        return "waits: process" in (two.data.parent / f"agent{number}.log").read_text()

    def controlled_by(agent: subprocess.Popen[bytes]) -> bool:
        return (found := two.job("long").controller) is not None and found.pid == agent.pid

    try:
        one = start(HERE)
        wait_until(lambda: two.holder() == (HERE, one.pid), "the first acts")
        other = start("other", "--standby")
        wait_until(lambda: waits(1), "the second waits")
        script = two.data.parent / "steps.py"
        script.write_text(STEPS)
        two.run("launch", "-d", "--name", "long", "--nodes", 2, "--script", script, "--", two.data.parent)
        wait_until(lambda: controlled_by(one), "the agent controls the job")
        two.wait_for_log("long", "step 5\n", range(2))
        token = two.token("long")
        ranks = processes_here(token)

        begin = time.monotonic()
        os.kill(one.pid, signal.SIGSTOP)
        wait_until(lambda: two.holder() == ("other", other.pid), "the second acts")
        frozen = time.monotonic() - begin
        wait_until(lambda: controlled_by(other), "it controls the job")
        os.kill(one.pid, signal.SIGCONT)
        assert one.wait(60) == 9, "who lost the lease ends"
        assert set(ranks) <= set(processes_here(token)), "who lost the job stopped nothing of it"

        third = start(HERE, "--standby")
        wait_until(lambda: waits(2), "the third waits")
        begin = time.monotonic()
        other.kill()
        wait_until(lambda: two.holder() == (HERE, third.pid), "the third acts")
        killed = time.monotonic() - begin
        wait_until(lambda: controlled_by(third), "it controls the job")
        print(f"followed after {frozen:.1f} s (frozen), {killed:.1f} s (killed); the lease lasts {DURATION_S:g} s")
        assert frozen < 3 * DURATION_S and killed < 3 * DURATION_S

        (two.data.parent / "go").touch()
        row = two.wait_for("long", "completed", "failed", "stopped")
        assert (row.status, row.reason) == ("completed", "")
        with two.store() as store:
            attempt = store.attempt("long")
            adopted = [event for event in store.events("long", limit=500) if event.kind == "adopted"]
        assert attempt and attempt.number == 1 and len(adopted) == 2
        steps: dict[int, Counter[int]] = {0: Counter(), 1: Counter()}
        for line in map(json.loads, (two.folder("long") / "metrics.jsonl").read_text().splitlines()):
            steps[line["rank"]][line["step"]] += 1
        for rank, found in steps.items():
            log = two.log("long", rank).splitlines()
            done = int(log[-1].split()[-1])
            assert log[:-1] == [f"step {number}" for number in range(1, done + 1)]
            assert found == Counter(range(1, done + 1)), "each line once"
        assert two.busy() == {}
        assert processes_here(token) == []
        third.terminate()
        assert third.wait(20) == 0
    finally:
        for agent in agents:
            if agent.poll() is None:
                agent.kill()
            agent.wait()
        two.close()
