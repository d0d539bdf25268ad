# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""`ugro explain` of jobs that really failed: the first rank, the cause, and where that is written."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.integration.support import PLAY, SCRIPTS, Ugro

BREAKS = SCRIPTS / "breaks.py"


def broken(ugro: Ugro, mode: str, *options: object) -> dict[str, Any]:
    """Launch a job on two ranks that fails, and return why it did."""
    ugro.run("launch", "--name", mode, "--script", BREAKS, "--nodes", 2, *options, "--", mode, code=7)
    found = ugro.json("explain", mode, "--json")
    print(ugro.run("explain", mode).stdout)
    assert (found["job_id"], found["status"]) == (mode, "failed")
    for line in found["evidence"]:
        if line["line"] and line["file"].startswith("logs/"):
            text = (ugro.folder(mode) / line["file"]).read_text().splitlines()[line["line"] - 1]
            assert text == line["text"]
    assert found["next_step"]
    return found


@pytest.mark.parametrize(
    ("mode", "cause", "title", "evidence"),
    [
        (
            "exception",
            "exception",
            "raised ValueError: no weights for this model at breaks.py:22 in exception",
            "KeyError",
        ),
        ("code", "exit_code", "ended with exit code 3", ""),
        ("refuses", "refused_input", "argument --lr: invalid float value: 'fast'", "error: argument --lr"),
        ("memory", "host_oom", "ran out of memory at breaks.py:39 in memory", "MemoryError"),
        ("lacks", "version", "No module named 'no_such_package_of_mine'", "ModuleNotFoundError"),
        ("full", "disk_full", "met a full disk at breaks.py:50 in full", "No space left on device"),
        ("killed", "killed", "was killed by SIGKILL", ""),
        ("crash", "crash", "crashed (SIGSEGV)", ""),
        ("port", "port_busy", "met a port that is in use at breaks.py:68 in port", "Address already in use"),
    ],
)
def test_one_rank_fails(ugro_here: Ugro, mode: str, cause: str, title: str, evidence: str) -> None:
    found = broken(ugro_here, mode)
    assert (found["cause"], found["rank"], found["node"]) == (cause, 1, "gpu1")
    assert found["title"].startswith("rank 1 on gpu1 ") and title in found["title"]
    assert evidence in " ".join(line["text"] for line in found["evidence"])
    assert "rank 0 stopped with the gang" in found["consequences"]


@pytest.mark.torch
@pytest.mark.slow
def test_in_a_collective_the_first_is_told_from_what_follows(ugro_here: Ugro) -> None:
    found = broken(ugro_here, "dtype")
    assert (found["cause"], found["rank"]) == ("exception", 1)
    assert "have the same dtype" in found["title"]

    found = broken(ugro_here, "absent")
    assert (found["cause"], found["rank"]) == ("collective_timeout", 0)
    assert "rank 1 on gpu1 never came to it" in found["title"]
    assert "rank 1 goes its own way" in [line["text"] for line in found["evidence"]]

    begin = time.monotonic()
    found = broken(ugro_here, "starved")
    assert time.monotonic() - begin < 240  # not after the half hour that the collective would wait
    assert (found["cause"], found["rank"]) == ("host_oom", 1)

    found = broken(ugro_here, "uneven")
    assert (found["cause"], found["rank"]) == ("uneven_end", 1)


def test_what_has_not_failed_is_explained_too(ugro_here: Ugro) -> None:
    ugro_here.run("launch", "-d", "--name", "runs", "--script", PLAY, "--nodes", 1, "--", "steps", 600, 0.1)
    ugro_here.wait_for_log("runs", "step 3 ", [0])
    found = ugro_here.json("explain", "runs", "--json")
    assert found["cause"] == "running" and "nothing is wrong" in found["title"]
    begin = time.monotonic()
    ugro_here.run("explain", "runs")
    assert time.monotonic() - begin < 60
    ugro_here.run("stop", "runs", "--force")
    found = ugro_here.json("explain", "runs", "--json")
    assert (found["cause"], found["status"]) == ("stopped", "stopped")
    assert "by force on request of" in found["title"]
    ugro_here.run("explain", "no_such_job", code=8)
