# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A supervisor that is killed on a node that still answers: what it left is ended there, and collected."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from tests.integration.support import PLAY, Ugro, finish, wait_until


def test_its_processes_are_ended_and_its_results_collected(ugro_here: Ugro) -> None:
    """Without systemd no cgroup takes them: the token in their environment finds them."""
    launch = ugro_here.start("launch", "--name", "headless", "--script", PLAY, "--", "daemonise", "wait")
    ugro_here.wait_for_log("headless", "daemon started", range(3))
    token = ugro_here.token("headless")
    attempt = ugro_here.home / ".ugro" / "gpu1" / "jobs" / "headless" / "1"
    (attempt / "checkpoints" / "kept.pt").write_text("weights")
    os.kill(json.loads((attempt / "supervisor.json").read_text())["pid"], signal.SIGKILL)
    ended = finish(launch, 7)
    assert "gpu1" in ended.stderr
    assert "supervisor is gone" in ended.stderr
    wait_until(lambda: ugro_here.leftovers(token) == {}, "no process is left")
    assert (ugro_here.folder("headless") / "checkpoints" / "gpu1" / "kept.pt").read_text() == "weights"
    assert not attempt.exists()


def test_modules_of_the_current_folder_are_not_ugros(ugro_here: Ugro, tmp_path: Path) -> None:
    """The process in the background is started where the user happens to be."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("secrets.py", "json.py", "asyncio.py"):
        (folder / name).write_text("raise SystemExit('a module of the user was imported')\n")
    ugro_here.cwd = folder
    ugro_here.run("launch", "-d", "--name", "elsewhere", "--script", PLAY, "--", "say")
    assert ugro_here.wait_for("elsewhere", "completed", "failed").status == "completed"
