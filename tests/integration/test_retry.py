# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A failed gang is stopped whole and launched anew from its newest complete checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.support import SCRIPTS, Ugro
from ugro_py.paths import JobPaths

FAILS_ONCE = SCRIPTS / "fails_once.py"


def check_second_attempt(ugro: Ugro, name: str) -> None:
    """The second attempt went on where the first one's newest checkpoint was, and nothing of either is lost."""
    folder, job = ugro.folder(name), ugro.job(name)
    with ugro.store() as store:  # why it is not, if it is not
        assert job.status == "completed", (job.reason, [event.text for event in store.events(name, limit=100)])
    for rank in range(3):
        assert ugro.log(name, rank).startswith(f"rank {rank} attempt 2 begins at step 4")
        assert "attempt 1 begins at step 1" in (folder / "attempts" / "1" / f"rank_{rank}.log").read_text()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {(line["attempt"], line["rank"], line["step"]) for line in lines} == {
        (attempt, rank, 3 * (attempt - 1) + step) for attempt in (1, 2) for rank in range(3) for step in (1, 2, 3)
    }
    assert (folder / "checkpoints" / "step_000003.pt").exists()
    assert (folder / "checkpoints" / "step_000006.pt").exists()
    assert json.loads((folder / "config.json").read_text())["attempt"] == 2
    assert ugro.busy() == {}


def test_the_next_attempt_goes_on_from_the_newest_checkpoint(ugro_here: Ugro) -> None:
    done = ugro_here.run("launch", "--name", "again", "--script", FAILS_ONCE, "--retry", 1, "--", 0.2)
    assert "rank 1 on gpu1 ended with exit code 3" in done.stdout
    assert "attempt 2 goes on from step_000003.pt" in done.stdout
    check_second_attempt(ugro_here, "again")
    assert ugro_here.leftovers(ugro_here.token("again", 1)) == {}


@pytest.mark.lab
def test_who_takes_a_job_over_retries_it_too(ugro: Ugro) -> None:
    process = ugro.start("launch", "--name", "taken", "--script", FAILS_ONCE, "--retry", 1, "--", 4)
    ugro.wait_for_log("taken", "step 3", range(3))
    process.kill()
    ugro.run("status", "taken")
    ugro.wait_for("taken", "completed", "failed")
    check_second_attempt(ugro, "taken")


def test_without_retries_there_is_one_attempt_and_secrets_are_for_the_owner_alone(ugro_here: Ugro) -> None:
    options = ("--script", FAILS_ONCE, "--env", "MY_TOKEN=x")
    done = ugro_here.run("launch", "--name", "once", *options, "--", 0.2, code=7)
    assert "rank 1 on gpu1 ended with exit code 3" in done.stderr
    folder = ugro_here.folder("once")
    assert not (folder / "attempts" / "2").exists()
    modes = [oct(path.stat().st_mode & 0o777) for path in (folder / "attempts" / "1").glob("*.spec.json")]
    assert modes == ["0o600"] * 3
    assert json.loads((folder / "config.json").read_text())["request"]["env"] == {"MY_TOKEN": "***"}


def test_logs_of_an_attempt_that_is_over_move_to_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UGRO_DATA", str(tmp_path))
    paths = JobPaths("moved")
    paths.logs.mkdir(parents=True)
    paths.attempt(1).mkdir(parents=True)
    paths.rank_log(0).write_text("first")
    paths.keep_logs(1)
    assert (paths.attempt(1) / "rank_0.log").read_text() == "first"
    assert not paths.rank_log(0).exists()
