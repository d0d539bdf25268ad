# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Where an agent runs, `ugro launch`, `resume` and `rerun` hand it the job and follow it through the API."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.agents import running_agent
from tests.integration.support import PLAY, SCRIPTS, Ugro, finish, interrupt, wait_until

pytestmark = [pytest.mark.slow]


def test_launch_wait_detach_resume_and_rerun(make_ugro: Callable[..., Ugro], here: Path, tmp_path: Path) -> None:
    ugro = make_ugro(here)
    script = tmp_path / "code" / "mine.py"
    script.parent.mkdir()
    script.write_text("print('as submitted')\n")
    with running_agent(ugro) as agent:
        wait_until((ugro.data / "agent.sock").exists, "the agent's door is open")
        ugro.run("launch", "-d", "--name", "first", "--script", PLAY, "--", "wait")
        ugro.wait_for("first", "running")
        assert ugro.job("first").controller.pid == agent.pid
        second = ugro.start("launch", "--name", "second", "--script", script)
        wait_until(lambda: (job := ugro.job_or_none("second")) and "first" in job.reason, "second waits for first")
        script.write_text("print('edited since')\n")
        interrupt(second)
        assert "detached" in finish(second).stderr
        refused = ugro.run("launch", "--no-wait", "--name", "hasty", "--script", PLAY, "--", "say", code=6)
        assert "behind job second" in refused.stderr
        ugro.run("stop", "first")
        assert ugro.wait_for("second", "completed", "failed").status == "completed"
        assert ugro.log("second", 0) == "as submitted\n"

        told = ugro.run("launch", "--name", "broken", "--script", SCRIPTS / "fails_once.py", "--", 0.1, code=7)
        assert "rank 1 on gpu1 ended with exit code 3" in told.stderr
        resumed = ugro.json("resume", "broken", "--json")
        assert (resumed["job"], resumed["status"], resumed["exit_code"]) == ("broken", "completed", 0)
        assert ugro.log("broken", 0).startswith("rank 0 attempt 2 begins at step 4")
        again = ugro.json("rerun", "second", "--name", "third", "--json")
        assert again["status"] == "completed"
        assert ugro.log("third", 0) == "as submitted\n"
    assert ugro.busy() == {}
