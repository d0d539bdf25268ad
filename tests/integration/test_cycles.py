# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Launch and stop, again and again: nothing adds up, and two central stores do not take each other's jobs."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.integration.support import PLAY, Ugro, wait_until

pytestmark = pytest.mark.slow

# The specification's figure is 200.
CYCLES = int(os.environ.get("UGRO_CYCLES", "5"))


def test_launching_and_stopping_leaks_nothing(ugro_here: Ugro) -> None:
    ugro = ugro_here
    begin = time.monotonic()
    for number in range(CYCLES):
        job = f"cycle{number}"
        # In turn on another node; stopped at once, which meets it at another point of its start each time.
        node = ("gpu-master", "gpu1", "gpu2")[number % 3]
        ugro.run("launch", "-d", "--name", job, "--script", PLAY, "--include", node, "--", "wait")
        assert set(ugro.busy().values()) == {job}
        force = ["--force"] if number % 2 else []
        ugro.run("stop", job, *force)
        assert ugro.job(job).status == "stopped"
        assert ugro.busy() == {}
        assert ugro.leftovers(ugro.token(job)) == {}
    jobs = ugro.jobs()
    assert len(jobs) == CYCLES
    assert {job.status for job in jobs} == {"stopped"}
    wait_until(lambda: all(job.controller is None for job in ugro.jobs()), "every controller has ended")
    left = [path for node in ("gpu-master", "gpu1", "gpu2") for path in (ugro.home / ".ugro" / node / "jobs").glob("*")]
    assert left == []
    print(f"{CYCLES} launch/stop cycles in {time.monotonic() - begin:.0f} s: 0 jobs lost, 0 GPUs leaked")


def test_a_job_of_another_store_with_the_same_name_is_left_alone(ugro_here: Ugro, tmp_path: Path) -> None:
    """Two people on one account, or a database that was deleted: the folder on the node has the job's name only."""
    words = ("--name", "same", "--script", PLAY, "--include", "gpu1", "--")
    other = Ugro(ugro_here.home, tmp_path / "other", ugro_here.inventory)
    try:
        other.run("launch", "-d", *words, "wait")
        other.wait_for_log("same", "waiting", [0])
        refused = ugro_here.run("launch", *words, "say", code=4).stderr
        assert "another job named same" in refused and refused.count("\n") == 1
        assert (ugro_here.job("same").status, ugro_here.busy()) == ("failed", {})
        assert other.job("same").status == "running"
        assert len(other.leftovers(other.token("same"))["here"]) > 1

        # What is left of one that has ended is in nobody's way.
        here = other.home / ".ugro" / "gpu1" / "jobs" / "same" / "1"
        spec = (here / "spec.json").read_text()
        other.run("stop", "same", "--force")
        here.mkdir(parents=True)
        (here / "spec.json").write_text(spec)
        (here / "pids").mkdir()
        gone = {"pid": 2**22, "start_ticks": 1, "boot_id": "another", "attempt": 1, "token": "another"}
        (here / "supervisor.json").write_text(json.dumps(gone))
        third = Ugro(ugro_here.home, tmp_path / "third", ugro_here.inventory)
        third.run("launch", *words, "say")
        assert json.loads(third.log("same", 0))["rank"] == 0
    finally:
        other.close()
