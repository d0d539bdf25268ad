# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The controller is killed: the job goes on, the state stays true, no GPU and no process is left behind."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from collections import Counter
from contextlib import suppress

import pytest

from tests.integration.support import PLAY, Ugro, wait_until
from tests.lab.processes import wait_gone

pytestmark = [pytest.mark.lab, pytest.mark.slow]

# How often the controller is killed at a random moment; the specification's figure is 50.
KILLS = int(os.environ.get("UGRO_KILLS", "6"))
STEPS = 5


def steps_in_metrics(ugro: Ugro, job: str) -> list[tuple[int, int]]:
    """Return the sorted (rank, step) of the job's metrics."""
    text = (ugro.folder(job) / "metrics.jsonl").read_text()
    return sorted((line["rank"], line["step"]) for line in map(json.loads, text.splitlines()))


def test_a_job_outlives_its_controllers_and_status_tells_the_truth(ugro: Ugro) -> None:
    steps = 80
    process = ugro.start("launch", "--name", "orphan", "--script", PLAY, "--", "steps", steps, 0.1)
    ugro.wait_for_log("orphan", "step 2 ", range(3))
    process.kill()
    process.communicate()
    status = ugro.json("status", "orphan", "--json")
    assert status["status"] == "running"
    assert {rank["status"] for rank in status["ranks"]} == {"running"}
    second = status["controller"]
    assert second not in (None, process.pid)

    os.kill(second, signal.SIGKILL)  # the process that `ugro status` started to take over
    wait_gone([second])
    (listed,) = ugro.json("ps", "--json")
    assert listed["status"] in ("running", "collecting", "completed")
    assert ugro.job("orphan").controller is None or ugro.job("orphan").controller.pid != second
    job = ugro.wait_for("orphan", "completed", "failed", "stopped")
    assert (job.status, job.reason) == ("completed", "")
    for rank in range(3):
        assert len(ugro.log("orphan", rank).splitlines()) == steps
    assert steps_in_metrics(ugro, "orphan") == [(rank, step) for rank in range(3) for step in range(1, steps + 1)]
    assert ugro.busy() == {}
    assert ugro.leftovers(ugro.token("orphan")) == {}
    assert sum(event["kind"] == "adopted" for event in ugro.json("status", "orphan", "--json")["events"]) <= 2


def settle(ugro: Ugro, job: str) -> None:
    """Have `ugro ps` make the store true until no job is active."""

    def done() -> bool:
        listed = ugro.json("ps", "--json")
        return all(entry["status"] in ("completed", "failed", "stopped") for entry in listed)

    wait_until(done, f"job {job} has ended or never was", every_s=0.2)


def test_killed_at_any_moment_no_job_and_no_gpu_is_lost(ugro: Ugro) -> None:
    words = ("--script", PLAY, "--", "steps", STEPS, 0.2)
    begin = time.monotonic()
    told = ugro.run("launch", "--name", "whole", *words).stdout
    whole = time.monotonic() - begin
    found = re.search(r"^started 3 ranks.*\[([0-9.]+) s\]$", told, re.MULTILINE)
    assert found
    # Verification, allocation, staging and start, with the start of Python: where half-done things could be left.
    start = 1.0 + float(found.group(1))
    moments = random.Random(4)
    outcomes: Counter[str] = Counter()
    for number in range(KILLS):
        job = f"kill{number}"
        delay = moments.uniform(0.1, start if number % 2 else whole)
        process = ugro.start("launch", "--name", job, *words)
        with suppress(Exception):
            process.wait(timeout=delay)
        process.kill()
        process.communicate()
        settle(ugro, job)
        here = f"{job}, killed after {delay:.2f} s"
        assert ugro.busy() == {}, here
        row = ugro.job_or_none(job)
        if row is None:
            outcomes["never was"] += 1
            assert not (ugro.folder(job) / "attempts").exists(), here
            continue
        outcomes[f"{row.status} {row.reason}".strip()] += 1
        if (ugro.folder(job) / "attempts" / "1" / "gang.json").exists():
            wait_until(lambda job=job: not ugro.leftovers(ugro.token(job)), f"{here}: nothing is left", 30)
        if row.status == "completed":
            assert steps_in_metrics(ugro, job) == [(r, s) for r in range(3) for s in range(1, STEPS + 1)], here
        else:
            assert row.status == "failed" and row.reason, here
    print(f"{KILLS} kills, half of them in the first {start:.1f} s of {whole:.1f} s: {dict(outcomes)}")
    print("0 jobs lost, 0 GPUs leaked")
    assert sum(outcomes.values()) == KILLS
    # The cluster is as good as new.
    ugro.run("launch", "--name", "after", *words)
