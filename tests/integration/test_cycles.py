# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Launch and stop, again and again: nothing adds up."""

from __future__ import annotations

import os
import time

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
