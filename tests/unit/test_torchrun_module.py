# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The module torchrun as Ansible runs it, with a sleeping program in torchrun's place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ugro_py import paths

MODULE = paths.collection_dir() / "plugins" / "modules" / "torchrun.py"
UTILS = paths.collections_path() / "ansible_collections" / "ugro" / "cluster" / "plugins" / "module_utils"
SECRET = "hf_very_secret"

Torchrun = Callable[..., dict[str, Any]]


@pytest.fixture
def spec(tmp_path: Path) -> dict[str, Any]:
    command = ["{python}", "-S", "{rank_exec}", "{attempt}", "/bin/sleep", "600"]
    return {
        "job": "nap", "attempt": 1, "token": f"module-{os.getpid()}-{tmp_path.name}", "python": sys.executable,
        "kind": "cpu", "stop_grace_s": 5, "env": {"RANK": "0", "HF_TOKEN": SECRET},
        "launches": [{"ranks": [0], "gpus": ["CPU-n1-0"], "command": command}],
    }  # fmt: skip


@pytest.fixture
def torchrun(tmp_path: Path, spec: dict[str, Any]) -> Iterator[Torchrun]:
    """Run the module on the node `n1` of this machine; what it started is ended after the test."""

    def run(state: str, *, check: bool = False, failed: bool = False, **options: Any) -> dict[str, Any]:
        arguments = {
            "job": "nap", "node": "n1", "node_dir": str(tmp_path), "state": state, "grace": 0,
            "_ansible_check_mode": check, "_ansible_remote_tmp": str(tmp_path), **options,
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, str(MODULE)],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        answer: dict[str, Any] = json.loads(done.stdout)
        assert answer.get("failed", False) is failed, done.stdout + done.stderr
        assert SECRET not in done.stdout
        return answer

    yield run
    run("absent")


def lives(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def start(torchrun: Torchrun, spec: dict[str, Any], **options: Any) -> dict[str, Any]:
    return torchrun("started", spec=json.dumps(spec), utils=str(UTILS), **options)


def test_starting_twice_starts_once(torchrun: Torchrun, spec: dict[str, Any]) -> None:
    first = start(torchrun, spec)
    assert (first["changed"], first["state"]) == (True, "started")
    assert first["diff"] == {"before": {"state": "absent"}, "after": {"state": "started"}}
    assert first["unit"] == "ugro-nap-1-n1.service"
    assert first["manager"] in ("system", "user", "none")
    deadline = time.monotonic() + 30
    while not (second := start(torchrun, spec))["pids"]:
        assert time.monotonic() < deadline, "the rank did not start"
    assert (second["changed"], second["pid"]) == (False, first["pid"])
    assert lives(second["pid"]) and lives(second["pids"]["0"])
    assert any(path.endswith("logs/rank_0.log") for path in second["log_paths"])


def test_check_mode_tells_and_does_nothing(torchrun: Torchrun, spec: dict[str, Any], tmp_path: Path) -> None:
    told = start(torchrun, spec, check=True)
    assert (told["changed"], told["diff"]["after"]) == (True, {"state": "started"})
    assert not (tmp_path / "n1").exists()
    assert torchrun("stopped", check=True)["changed"] is False
    assert torchrun("absent", check=True)["changed"] is False
    started = start(torchrun, spec)
    assert start(torchrun, spec, check=True)["changed"] is False
    assert torchrun("stopped", check=True)["changed"] is True
    assert torchrun("absent", check=True)["changed"] is True
    assert lives(started["pid"])


def test_stopping_ends_every_process_and_keeps_what_was_written(torchrun: Torchrun, spec: dict[str, Any]) -> None:
    started = start(torchrun, spec)
    stopped = torchrun("stopped", reason="enough")
    assert (stopped["changed"], stopped["state"], stopped["left_over"]) == (True, "stopped", 0)
    assert not lives(started["pid"])
    assert not any(lives(pid) for pid in stopped["pids"].values())
    events = (Path(stopped["dir"]) / "events.jsonl").read_text()
    assert '"reason": "enough"' in events
    assert torchrun("stopped")["changed"] is False
    assert start(torchrun, spec)["changed"] is False, "an attempt starts once"


def test_absent_removes_its_folder(torchrun: Torchrun, spec: dict[str, Any], tmp_path: Path) -> None:
    started = start(torchrun, spec)
    gone = torchrun("absent")
    assert (gone["changed"], gone["state"]) == (True, "absent")
    assert not lives(started["pid"])
    assert not (tmp_path / "n1" / "jobs" / "nap").exists()
    assert torchrun("absent")["changed"] is False


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"spec": None}, "needs spec"),
        ({"spec": "{"}, "not JSON"),
        ({"job": "other"}, "not of attempt 1 of job other"),
        ({"utils": "/nowhere"}, "not prepared for this node"),
        ({"code": "0123"}, "0123 was not staged here"),
    ],
)
def test_what_it_cannot_start_it_says(
    torchrun: Torchrun, spec: dict[str, Any], tmp_path: Path, change: dict[str, Any], text: str
) -> None:
    options = {"spec": json.dumps(spec), "utils": str(UTILS), **change}
    assert text in torchrun("started", failed=True, **options)["msg"]
    assert not (tmp_path / "n1" / "jobs" / "nap" / "1" / "supervisor.json").exists()


def test_a_program_that_is_not_there_ends_the_attempt(torchrun: Torchrun, spec: dict[str, Any]) -> None:
    spec["launches"][0]["command"] = ["/no/such/torchrun"]
    answer = torchrun("started", spec=json.dumps(spec), utils=str(UTILS))
    deadline = time.monotonic() + 30
    while answer["state"] == "started":
        assert time.monotonic() < deadline
        answer = torchrun("started")
    assert answer["state"] in ("lost", "stopped")
