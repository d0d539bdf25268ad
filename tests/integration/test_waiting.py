# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Jobs that wait for their turn without an agent, run what was submitted, and go on or run again later."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.integration.support import PLAY, SCRIPTS, Ugro, finish, interrupt, processes_here, wait_until
from tests.lab.processes import wait_gone

pytestmark = [pytest.mark.slow]

WAIT = ("--script", PLAY, "--", "wait")
SAY = ("--script", PLAY, "--", "say")


def busy_with(ugro: Ugro, name: str = "first") -> None:
    """Have a job hold every GPU of this machine."""
    ugro.run("launch", "-d", "--name", name, *WAIT)
    ugro.wait_for(name, "running")


def waiting(ugro: Ugro, name: str, reason: str) -> None:
    """Wait until a job is in the queue and says what for."""
    wait_until(
        lambda: (job := ugro.job_or_none(name)) and job.status == "pending" and reason in job.reason,
        f"{name} waits, saying {reason!r}",
    )


def started(ugro: Ugro, name: str) -> float:
    at = ugro.job(name).started_at
    assert at is not None
    return at.timestamp()


def test_a_job_waits_says_why_and_runs_what_was_submitted(ugro_here: Ugro, tmp_path: Path) -> None:
    busy_with(ugro_here)
    script = tmp_path / "code" / "mine.py"
    script.parent.mkdir()
    script.write_text("print('as submitted')\n")
    refused = ugro_here.run("launch", "--name", "hasty", "--no-wait", *SAY, code=6)
    assert "job first" in refused.stderr
    assert ugro_here.job_or_none("hasty") is None
    plan = ugro_here.run("launch", "--dry-run", "--name", "planned", *SAY).stdout
    assert "would wait" in plan

    second = ugro_here.start("launch", "--name", "second", "--script", script)
    waiting(ugro_here, "second", "job first")
    script.write_text("print('edited since')\n")
    (script.parent / "new.py").write_text("print('new')\n")
    status = ugro_here.json("status", "second", "--json")
    assert (status["job"], status["job_id"], status["status"]) == ("second", "second", "pending")
    assert (status["queue_position"], status["queue_length"]) == (1, 1)
    assert "job first" in status["reason"]
    ugro_here.run("stop", "first")
    done = finish(second)
    assert "waiting (1 of 1 in the queue): " in done.stdout
    assert ugro_here.log("second", 0) == "as submitted\n"
    assert ugro_here.busy() == {}
    # Its files are kept for another time; the inbox is empty.
    again = ugro_here.json("rerun", "second", "--name", "third", "--json")
    assert (again["job"], again["status"]) == ("third", "completed")
    assert ugro_here.log("third", 0) == "as submitted\n"
    assert list((ugro_here.data / "spool").iterdir()) == []
    assert not (ugro_here.folder("third") / "spool" / "code" / "new.py").exists()


def test_the_more_urgent_one_goes_first_and_a_newcomer_does_not_jump_the_queue(ugro_here: Ugro) -> None:
    busy_with(ugro_here)
    low = ugro_here.json("launch", "-d", "--json", "--name", "low", "--priority", "batch", *SAY)
    assert low["status"] == "pending"
    held = ugro_here.json("launch", "-d", "--json", "--hold", "--name", "held", "--priority", "100", *SAY)
    assert held["status"] == "pending"
    high = ugro_here.start("launch", "--name", "high", "--priority", "urgent", *SAY)
    waiting(ugro_here, "high", "first")
    waiting(ugro_here, "low", "")
    ugro_here.run("stop", "first")
    finish(high)
    ugro_here.wait_for("low", "completed")
    assert started(ugro_here, "high") < started(ugro_here, "low")
    assert ugro_here.job("held").status == "pending"
    assert "held" in ugro_here.job("held").reason
    ugro_here.run("stop", "held")
    assert ugro_here.job("held").status == "stopped"


def test_after_a_job_that_completes_or_fails(ugro_here: Ugro) -> None:
    ugro_here.run("launch", "-d", "--name", "one", "--gpus", 1, "--script", PLAY, "--", "steps", 8, 0.5)
    two = ugro_here.start("launch", "--name", "two", "--gpus", 1, "--after", "one", *SAY)
    waiting(ugro_here, "two", "one")
    finish(two)
    assert ugro_here.job("one").status == "completed"
    assert started(ugro_here, "two") > ugro_here.job("one").ended_at.timestamp()
    ugro_here.run("launch", "--name", "bad", "--gpus", 1, "--script", PLAY, "--", "fail", 0, code=7)
    never = ugro_here.run("launch", "--name", "never", "--gpus", 1, "--after", "bad", *SAY, code=7)
    assert "bad" in never.stderr
    assert ugro_here.job("never").status == "failed"
    ugro_here.run("launch", "--name", "lost", "--after", "nobody", *SAY, code=8)


def test_ctrl_c_detaches_and_a_killed_waiter_is_replaced(ugro_here: Ugro) -> None:
    busy_with(ugro_here)
    mine = ugro_here.start("launch", "--name", "mine", *SAY)
    waiting(ugro_here, "mine", "first")
    interrupt(mine)
    done = finish(mine)
    assert "stays in the queue" in done.stderr
    other = wait_until(
        lambda: (who := ugro_here.job("mine").controller) and who.pid != mine.pid and who, "somebody else waits"
    )
    os.kill(other.pid, signal.SIGKILL)
    wait_gone([other.pid])
    ugro_here.run("status", "mine")  # finds that nobody waits with it any more
    ugro_here.run("stop", "first")
    assert ugro_here.wait_for("mine", "completed", "failed").status == "completed"


def test_resume_goes_on_with_the_loss_curve(ugro_here: Ugro) -> None:
    ugro_here.run("launch", "--name", "curve", "--script", SCRIPTS / "fails_once.py", "--", 0.1, code=7)
    done = ugro_here.json("resume", "curve", "--json")
    assert done["status"] == "completed"
    lines = [json.loads(line) for line in (ugro_here.folder("curve") / "metrics.jsonl").read_text().splitlines()]
    steps = [(line["attempt"], line["step"]) for line in lines if line["rank"] == 0]
    assert steps == [(1, 1), (1, 2), (1, 3), (2, 4), (2, 5), (2, 6)]
    assert ugro_here.log("curve", 0).startswith("rank 0 attempt 2 begins at step 4")
    assert [row["status"] for row in ugro_here.json("status", "curve", "--json")["attempts"]] == ["failed", "completed"]
    assert "has completed" in ugro_here.run("resume", "curve", code=2).stderr
    assert ugro_here.leftovers(ugro_here.token("curve", 2)) == {}
    assert processes_here(ugro_here.token("curve", 1)) == []
