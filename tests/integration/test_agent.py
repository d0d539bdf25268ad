# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The agent is killed, ended, doubled: jobs go on, one agent acts, nothing written is lost or doubled."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.integration.support import PLAY, Ugro, finish, wait_until
from ugro_py.queue import actions

pytestmark = [pytest.mark.lab, pytest.mark.slow]

AGENT_KILLS = int(os.environ.get("UGRO_AGENT_KILLS", "4"))


class Agents:
    """Agents of one store, each a process of its own."""

    def __init__(self, ugro: Ugro) -> None:
        self.ugro = ugro

    def start(self, *options: str) -> subprocess.Popen[str]:
        return self.ugro.start("agent", *options)

    def acting(self, *options: str) -> subprocess.Popen[str]:
        """Start an agent and wait until it acts."""
        process = self.start(*options)
        wait_until(lambda: self.holder() == process.pid, "the agent acts", 60)
        return process

    def holder(self) -> int | None:
        """Return the process that holds the lease, None if it does not live."""
        if not (self.ugro.data / "ugro.db").exists():
            return None
        with self.ugro.store() as store:
            lease = store.lease()
        return lease.holder.pid if lease and lease.held else None


@pytest.fixture
def agents(ugro: Ugro) -> Iterator[Agents]:
    yield Agents(ugro)
    # Jobs that a failed test left are stopped by what `ugro` does on its own.
    for process in ugro._processes:
        if process.poll() is None:
            process.kill()
            process.wait()


def steps_of(ugro: Ugro, job: str) -> list[tuple[int, int]]:
    text = (ugro.folder(job) / "metrics.jsonl").read_text()
    return sorted((line["rank"], line["step"]) for line in map(json.loads, text.splitlines()))


def all_steps(count: int) -> list[tuple[int, int]]:
    return [(rank, step) for rank in range(3) for step in range(1, count + 1)]


def kinds(ugro: Ugro, job: str) -> list[str]:
    with ugro.store() as store:
        return [event.kind for event in store.events(job, limit=500)]


def test_a_killed_agent_is_followed_by_the_next_and_the_queue_goes_on(agents: Agents) -> None:
    ugro = agents.ugro
    first = agents.acting()
    ugro.run("launch", "-d", "--name", "long", "--script", PLAY, "--", "steps", 60, 0.1)
    ugro.run("launch", "-d", "--name", "next", "--script", PLAY, "--", "steps", 3, 0.1)
    wait_until(lambda: (c := ugro.job("long").controller) and c.pid == first.pid, "the agent controls the job")
    ugro.wait_for_log("long", "step 2 ", range(3))
    first.kill()
    first.wait()
    token = ugro.token("long")
    time.sleep(0.5)  # lines are written that nobody reads
    assert ugro.leftovers(token), "the job outlived its agent"
    second = agents.acting()
    row = ugro.wait_for("long", "completed", "failed", "stopped")
    assert (row.status, row.reason) == ("completed", "")
    assert steps_of(ugro, "long") == all_steps(60)
    for rank in range(3):
        assert len(ugro.log("long", rank).splitlines()) == 60
    assert "adopted" in kinds(ugro, "long")
    assert ugro.wait_for("next", "completed", "failed", "stopped").status == "completed"
    assert steps_of(ugro, "next") == all_steps(3)
    wait_until(lambda: not ugro.busy(), "all GPUs are free")
    status = ugro.json("agent", "status", "--json")
    assert status["pid"] == second.pid and status["term"] == 2
    assert status["loops"]["schedule"]["count"] > 0
    second.terminate()
    finish(second)
    ugro.run("agent", "status", code=8)


def test_one_acts_a_second_is_refused_and_a_standby_takes_over(agents: Agents) -> None:
    ugro = agents.ugro
    first = agents.acting()
    assert f"process {first.pid}" in finish(agents.start(), code=9).stderr
    standby = agents.start("--standby")
    ugro.run("launch", "-d", "--name", "steady", "--script", PLAY, "--", "steps", 100, 0.1)
    ugro.wait_for_log("steady", "step 1 ", range(3))
    token = ugro.token("steady")
    assert agents.holder() == first.pid

    begin = time.monotonic()
    first.terminate()
    finish(first)
    ended = time.monotonic() - begin
    wait_until(lambda: agents.holder() == standby.pid, "the standby acts")
    took = time.monotonic() - begin
    assert ugro.leftovers(token), "SIGTERM of the agent leaves the job alone"
    wait_until(lambda: (c := ugro.job("steady").controller) and c.pid == standby.pid, "it follows the job")

    third = agents.start("--standby")
    wait_until(lambda: "waits" in _logged(third), "the third one waits")
    begin = time.monotonic()
    standby.kill()
    standby.wait()
    wait_until(lambda: agents.holder() == third.pid, "the third one acts")
    killed = time.monotonic() - begin
    print(f"ended {ended:.1f} s after SIGTERM; the next acts after {took:.1f} s, {killed:.1f} s after a kill")
    assert ended < 30
    assert ugro.wait_for("steady", "completed", "failed", "stopped").status == "completed"
    assert steps_of(ugro, "steady") == all_steps(100)


def _logged(process: subprocess.Popen[str]) -> str:
    """Return what a running agent has written so far, without waiting for more."""
    assert process.stderr
    os.set_blocking(process.stderr.fileno(), False)
    text = getattr(process, "logged", "")
    with suppress(TypeError, BlockingIOError):
        text += process.stderr.read() or ""
    process.logged = text  # type: ignore[attr-defined]
    return text


def test_a_frozen_agent_is_followed_and_stops_acting_when_it_thaws(agents: Agents) -> None:
    first = agents.acting()
    standby = agents.start("--standby")
    wait_until(lambda: "waits" in _logged(standby), "the standby waits")
    begin = time.monotonic()
    os.kill(first.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: agents.holder() == standby.pid, "the standby acts")
        took = time.monotonic() - begin
    finally:
        os.kill(first.pid, signal.SIGCONT)
    said = finish(first, code=9).stderr
    assert "lease" in said
    assert agents.holder() == standby.pid
    print(f"a frozen agent was followed after {took:.1f} s")


def test_killed_at_any_moment_the_queue_loses_no_job(agents: Agents) -> None:
    ugro = agents.ugro
    moments = random.Random(7)
    agents.acting()
    for number in range(AGENT_KILLS):
        ugro.run("launch", "-d", "--hold", "--name", f"q{number}", "--script", PLAY, "--", "steps", 3, 0.1)
    for number in range(AGENT_KILLS):
        with ugro.store() as store:
            actions.release(store, f"q{number}", "root")
        time.sleep(moments.uniform(0.0, 3.0))
        pid = agents.holder()
        assert pid
        os.kill(pid, signal.SIGKILL)
        agents.acting()
    for number in range(AGENT_KILLS):
        job = ugro.wait_for(f"q{number}", "completed", "failed", "stopped")
        assert job.status == "completed", job.reason
        assert steps_of(ugro, job.name) == all_steps(3)
        with ugro.store() as store:
            attempts = store.attempt(job.name)
        assert attempts
        for attempt in range(1, attempts.number + 1):
            path = ugro.folder(job.name) / "attempts" / str(attempt) / "gang.json"
            if path.exists():
                assert ugro.leftovers(ugro.token(job.name, attempt)) == {}
    wait_until(lambda: not ugro.busy(), "all GPUs are free")


def test_idle_it_costs_next_to_nothing(agents: Agents) -> None:
    process = agents.acting()
    with agents.ugro.store() as store:
        wait_until(lambda: len(store.nodes()) == 3, "the nodes are known")
    time.sleep(3)
    ticks, seconds = _ticks(process.pid), 15.0
    time.sleep(seconds)
    percent = (_ticks(process.pid) - ticks) / os.sysconf("SC_CLK_TCK") / seconds * 100
    status = Path(f"/proc/{process.pid}/status").read_text()
    resident = int(status.split("VmRSS:")[1].split()[0]) / 1024
    print(f"idle on 3 nodes: {percent:.1f} % of a core, {resident:.0f} MB")
    assert percent < 3
    assert resident < 150


def _ticks(pid: int) -> int:
    """Return the CPU time of a process and of its children that still run."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = (int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    except OSError:
        return 0  # a child that has ended since it was listed
    return int(fields[11]) + int(fields[12]) + sum(map(_ticks, children))
