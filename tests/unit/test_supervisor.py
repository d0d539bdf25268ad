# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The supervisor with a stand-in for torchrun that reaps its ranks at once, as torchrun does when it is quicker."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ugro.cluster.plugins.module_utils import rank_exec, rank_watch, supervisor

# Starts one rank, waits for it, ends with the given code: the rank's own exit code is gone before anybody can see it.
_TORCHRUN = """
import os, subprocess, sys
os.environ["RANK"] = "0"
subprocess.run([sys.executable, "-S", sys.argv[1], sys.argv[2], sys.argv[3]])
sys.exit(int(sys.argv[4]))
"""


def _run(folder: Path, program: str, torchrun_code: int, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    for name in ("logs", "metrics", "pids", "checkpoints", "tensorboard", "code"):
        (folder / name).mkdir()
    command = [sys.executable, "-c", _TORCHRUN, rank_exec.__file__, str(folder), program, str(torchrun_code)]
    spec = {
        "job": "j", "attempt": 1, "token": f"token-{folder.name}", "kind": "cpu", "env": {}, "stop_grace_s": 1,
        "launches": [{"ranks": [0], "gpus": ["CPU-n-0"], "command": command}],
    }  # fmt: skip
    (folder / "spec.json").write_text(json.dumps(spec))
    monkeypatch.setattr(supervisor.signal, "signal", lambda *arguments: None)
    monkeypatch.setattr(supervisor.signal, "set_wakeup_fd", lambda *arguments, **options: None)
    monkeypatch.setattr(supervisor.processes, "become_subreaper", lambda: None)
    supervisor.Supervisor(str(folder)).run()
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def test_a_rank_reaped_before_it_was_seen_ended_well_if_torchrun_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = _run(tmp_path, "true", 0, monkeypatch)
    ended = [event for event in events if event["kind"] == "rank_exited"]
    assert [(event["rank"], event["exit_code"]) for event in ended] == [(0, 0)]
    assert events[-1]["kind"] == "finished"
    assert events[-1]["exit_code"] == 0


def test_a_rank_reaped_before_it_was_seen_is_not_called_well_if_torchrun_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = _run(tmp_path, "false", 1, monkeypatch)
    assert all(event["exit_code"] != 0 for event in events if event["kind"] == "rank_exited")
    assert events[-1]["exit_code"] == 1


def test_events_survive_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reserve makes room; what is lost after it is counted, and a torn line spoils no other."""
    log = supervisor.EventLog(str(tmp_path / "events.jsonl"))
    real, room = supervisor.os.write, [10]

    def write(fd: int, data: bytes) -> int:
        if (tmp_path / "events.jsonl.reserve").exists() or room[0] < len(data):
            part, room[0] = data[: room[0]], 0
            if not part:
                raise OSError(28, "No space left on device")
            return real(fd, part)
        return real(fd, data)

    monkeypatch.setattr(supervisor.os, "write", write)
    log.write("a")  # torn after 10 bytes, and the reserve given back; but others take the room
    log.write("b")
    assert not (tmp_path / "events.jsonl.reserve").exists()
    room[0] = 10_000
    log.write("c")
    torn, whole = (tmp_path / "events.jsonl").read_text().splitlines()
    assert len(torn) == 10
    assert json.loads(whole)["kind"] == "c"
    assert json.loads(whole)["lost_before"] == 2


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (40, "SIG40")])
def test_a_rank_ended_by_any_signal_is_told(tmp_path: Path, number: int, name: str) -> None:
    """Most real-time signals have no name in Python."""
    rank = rank_watch.RankWatch(str(tmp_path), 0, "CPU-n-0", None)
    rank.exit_code = -number
    assert rank.end_report()["signal"] == name


def test_a_metric_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = {"step": 1, "training_loss": 2.0, "self": 3, "kind": 4, "t": 5, "lost_before": 6}
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho '{json.dumps(line)}' > $UGRO_METRICS_FILE\n")
    program.chmod(0o755)
    events = _run(tmp_path, str(program), 0, monkeypatch)
    (metrics,) = [event for event in events if event["kind"] == "metrics"]
    assert (metrics["training_loss"], metrics["self"]) == (2.0, 3)
    assert metrics["t"] > 5
    assert "lost_before" not in metrics
    assert events[-1]["exit_code"] == 0
