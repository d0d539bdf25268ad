# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What can go wrong on the machine that launches: its disk is full, its user loses patience, its paths are long."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.support import PLAY, UGRO, Ugro, finish
from tests.lab import Lab
from ugro_py.plan import STOP_GRACE_S


@pytest.fixture
def small_store(tmp_path: Path) -> Iterator[Path]:
    """A central store on a file system of 4 MB."""
    store = tmp_path / "small"
    store.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs", store], check=True)
    yield store
    subprocess.run(["umount", "--lazy", store], check=True)


@pytest.mark.lab
def test_a_full_central_store_ends_the_job_and_says_so(home: Path, small_store: Path, lab3: Lab) -> None:
    ugro = Ugro(home, small_store, lab3.inventory_file(), lab3)
    try:
        done = ugro.run("launch", "--name", "flood", "--script", PLAY, "--", "flood", 8, code=9)
        assert "No space left on device; make room in the central store" in done.stderr
        token = ugro.token("flood")
        assert ugro.leftovers(token) == {}
        subprocess.run(["mount", "-o", "remount,size=200m", small_store], check=True)
        ugro.run("status", "flood")
        job = ugro.wait_for("flood", "failed")
        assert job.reason
        assert ugro.busy() == {}
        assert all(ugro.log("flood", rank).startswith("0 x") for rank in range(3))
    finally:
        ugro.close()


def test_force_shortens_a_stop_that_is_under_way(ugro_here: Ugro) -> None:
    ugro_here.run("launch", "-d", "--name", "deaf", "--script", PLAY, "--", "deaf")
    ugro_here.wait_for_log("deaf", "waiting", range(3))
    patient = ugro_here.start("stop", "deaf")
    begun = time.monotonic()
    while not ugro_here.job("deaf").stop_requested:
        assert time.monotonic() < begun + 30
        time.sleep(0.05)
    time.sleep(1)
    ugro_here.run("stop", "deaf", "--force")
    assert time.monotonic() - begun < STOP_GRACE_S
    finish(patient)
    assert ugro_here.job("deaf").status == "stopped"


@pytest.mark.lab
def test_a_home_too_long_for_a_control_socket(lab3: Lab, tmp_path: Path, make_ugro: Callable[..., Ugro]) -> None:
    home = tmp_path / ("h" * 60)
    home.mkdir()
    ugro = make_ugro(lab3.inventory_file(), lab3)
    ugro.home = home
    assert {node["severity"] for node in ugro.json("check", "--json")["nodes"].values()} <= {"ok", "warning"}
    assert os.listdir(home / ".ugro" / "cm") == []


def test_output_that_cannot_be_written_is_one_line(ugro_here: Ugro) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [UGRO, "check"], env=ugro_here.env, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 9
    assert done.stderr.splitlines() == [
        "ugro: output: No space left on device; make room or correct it, then try again"
    ]


def test_what_looks_like_a_secret_is_not_in_the_capsule(ugro_here: Ugro) -> None:
    secrets = ("--env", "HF_PASSWD=canary1", "--env", "WANDB_KEY=canary2")
    words = ("say", "--hf-token", "canary3", "--api_key=canary4", "--lr", "0.1")
    ugro_here.run("launch", "--name", "masked", "--script", PLAY, *secrets, "--", *words)
    folder = ugro_here.folder("masked")
    config = (folder / "config.json").read_text()
    assert "canary" not in config
    assert '"0.1"' in config
    assert oct(folder.stat().st_mode & 0o777) == "0o700"
