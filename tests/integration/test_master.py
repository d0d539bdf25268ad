# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""`ugro --master user@host VERB` over real SSH, to a host with an agent and two accounts."""

from __future__ import annotations

# ruff: noqa: F811 - the fixture
import json
import os
import pty
import signal
import subprocess
import sys

import pytest

from tests.integration.laptop import SCRIPT, Laptop, laptop  # noqa: F401 - a fixture
from tests.integration.support import interrupt, wait_until

pytestmark = pytest.mark.lab


def test_jobs_belong_to_who_logs_in(laptop: Laptop) -> None:
    assert json.loads(laptop.run("ob", "ps", "--json").stdout) == []
    laptop.run("ob", *SCRIPT, "hers", "--gpus", "1", "-d", "--", "wait")
    shown = json.loads(laptop.run("ollie", "ps", "--json").stdout)
    assert [(line["job"], line["user"]) for line in shown] == [("hers", "ob")]
    refused = laptop.run("ollie", "stop", "hers", "--force", code=11)
    assert "it is ob's, you are ollie" in refused.stderr
    assert laptop.job("hers")["status"] in ("pending", "starting", "running")
    assert "stopped" in laptop.run("ob", "stop", "hers", "--force").stdout
    assert laptop.job("hers")["status"] == "stopped"


def test_exit_codes_come_through(laptop: Laptop) -> None:
    laptop.run("ob", "status", "no_such_job", code=8)
    laptop.run("ob", "launch", "--no-such-option", code=2)
    failed = laptop.run("ob", *SCRIPT, "fails", "--gpus", "1", "--", "fail", "0", code=7)
    assert "has had enough" in failed.stderr + failed.stdout


@pytest.mark.parametrize("terminal", [False, True])
def test_ctrl_c_detaches(laptop: Laptop, terminal: bool) -> None:
    name = f"left_{terminal}".lower()
    words = (*SCRIPT, name, "--gpus", "1", "--", "wait")
    if terminal:
        ours, theirs = pty.openpty()
        process = laptop.start("ob", *words, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        reader = subprocess.Popen(
            [sys.executable, "-c", "import os, sys\nwhile os.read(0, 4096): pass"], stdin=ours,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
    else:
        process = laptop.start("ob", *words)
    try:
        wait_until(lambda: f'"{name}"' in laptop.run("ollie", "ps", "--json").stdout, "it is with the agent")
        if terminal:
            os.write(ours, b"\x03")
        else:
            interrupt(process)
        assert process.wait(60) == 0
        if not terminal:
            assert f"detached; job {name} goes on" in process.communicate()[1]
        assert laptop.job(name)["status"] in ("pending", "starting", "running")
    finally:
        if terminal:
            os.close(ours)
            reader.kill()
            reader.wait()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    laptop.run("ob", "stop", name, "--force")
