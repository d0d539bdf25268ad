# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""`ugro drill` on running jobs: what it breaks is noticed, tried again, measured, and known to `ugro explain`."""

from __future__ import annotations

import pytest

from tests.integration.support import PLAY, Ugro, wait_until
from tests.lab import Lab


def running(ugro: Ugro, name: str, *options: object) -> None:
    """Start a job that prints a step every 50 ms, and wait until every rank of it does."""
    ugro.run("launch", "-d", "--name", name, "--script", PLAY, *options, "--", "steps", 2000, 0.05)
    ranks = list(ugro.rank_states(name))
    ugro.wait_for_log(name, "step 3 ", ranks)
    wait_until(lambda: ugro.job(name).status == "running", f"{name} is running")


def test_a_killed_rank_is_noticed_and_the_job_trains_again(ugro_here: Ugro) -> None:
    running(ugro_here, "drilled", "--retry", 1, "--nodes", 2)
    found = ugro_here.json("drill", "kill-rank", "drilled", "--rank", 1, "--json")
    print(found)
    assert (found["node"], found["rank"], found["attempt"]) == ("gpu1", 1, 1)
    assert "rank 1 on gpu1 was killed by SIGKILL" in found["detected"]
    assert 0 <= found["detection_s"] < 30  # measured: below 1
    assert found["detection_s"] < found["restart_s"] < found["recovery_s"]
    assert found["recovered_by"] == "first step"

    first = ugro_here.json("explain", "drilled", "--attempt", 1, "--json")
    assert (first["cause"], first["rank"]) == ("killed", 1)
    assert first["drill"].startswith("a drill did this: kill-rank: rank 1 on gpu1")

    # The retry is spent: whoever goes on means it.
    refused = ugro_here.run("drill", "kill-rank", "drilled", code=2)
    assert "no retry is left" in refused.stderr and "--yes" in refused.stderr
    assert ugro_here.job("drilled").status == "running"
    shown = ugro_here.run("drill", "kill-rank", "drilled", "--yes").stdout
    assert "noticed" in shown and "job           failed" in shown
    ugro_here.wait_for("drilled", "failed")
    assert ugro_here.leftovers(ugro_here.token("drilled", 2)) == {}


def test_a_pause_ends_by_itself(ugro_here: Ugro) -> None:
    running(ugro_here, "paused", "--nodes", 2)
    found = ugro_here.json("drill", "pause-node", "paused", "--node", "gpu1", "--seconds", 1, "--json")
    print(found)
    assert (found["node"], found["rank"], found["restart_s"]) == ("gpu1", None, None)
    assert found["recovered_by"] == "first step after the pause"
    assert 1.0 <= found["recovery_s"] < 30.0
    assert found["status"] == "running"
    ugro_here.run("stop", "paused", "--force")


def test_what_makes_no_sense_is_refused(ugro_here: Ugro) -> None:
    assert "goes with kill-node" in ugro_here.run("drill", "kill-rank", "x", "--power", code=2).stderr
    assert "use --node" in ugro_here.run("drill", "kill-node", "x", "--rank", 0, code=2).stderr
    ugro_here.run("drill", "kill-rank", "no_such_job", code=8)
    ugro_here.run("launch", "--name", "over", "--script", PLAY, "--nodes", 1, "--", "say")
    assert "it is completed" in ugro_here.run("drill", "kill-rank", "over", code=2).stderr
    assert "has none" in ugro_here.run("drill", "kill-rank", "over", "--rank", 7, code=8).stderr


@pytest.mark.lab
@pytest.mark.slow
def test_a_killed_node_is_noticed_and_the_job_trains_again(ugro: Ugro) -> None:
    running(ugro, "nodeless", "--retry", 1)
    token = ugro.token("nodeless", 1)
    found = ugro.json("drill", "kill-node", "nodeless", "--node", "gpu2", "--json")
    print(found)
    assert found["node"] == "gpu2"
    assert found["detection_s"] < 60
    assert found["recovered_by"] == "first step"
    assert ugro.leftovers(token) == {}
    first = ugro.json("explain", "nodeless", "--attempt", 1, "--json")
    assert first["node"] == "gpu2" and first["drill"]
    ugro.run("stop", "nodeless", "--force")


@pytest.mark.lab
@pytest.mark.slow
def test_a_machine_that_goes_down_is_noticed_and_the_job_trains_again_on_the_spare(ugro: Ugro, lab3: Lab) -> None:
    host = lab3.host("gpu-master")
    running(ugro, "powerless", "--retry", 1, "--nodes", 2)
    token = ugro.token("powerless", 1)
    refused = ugro.run("drill", "kill-node", "powerless", "--node", "gpu-master", "--power", code=2)
    assert "node gpu-master will reboot" in refused.stderr
    found = ugro.json("drill", "kill-node", "powerless", "--node", "gpu-master", "--power", "--yes", "--json")
    print(found)
    try:
        assert (found["node"], found["recovered_by"]) == ("gpu-master", "first step")
        assert found["detection_s"] < 60
        assert {node for node, _ in ugro.rank_states("powerless").values()} == {"gpu1", "gpu2"}
        # A container that is told to reboot ends; a machine would come back by itself.
        wait_until(lambda: not host.is_on(), "it went down")
    finally:
        host.pid = host.leader = 0
        host.boot()
    assert ugro.leftovers(token) == {}
    ugro.run("stop", "powerless", "--force")
