# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""`ugro events -f` as a program: JSON lines through an agent that is restarted; ended by Ctrl-C, or by its reader."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.api_server import Served
from ugro_py.state import Store

UGRO = [str(Path(sys.executable).parent / "ugro"), "events"]


def start(tmp_path: Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
    env = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "UGRO_DATA": str(tmp_path / "mine"), **more}
    return subprocess.Popen(
        [*UGRO, "-f", "--json", *arguments], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def text_of(run: subprocess.Popen[str]) -> str:
    assert run.stdout is not None
    found: str = json.loads(run.stdout.readline())["text"]
    return found


def ended(run: subprocess.Popen[str], how: signal.Signals) -> tuple[int, str]:
    run.send_signal(how)
    rest, said = run.communicate(timeout=30)
    assert rest == ""
    return run.returncode, said.strip()


def test_an_agent_that_is_restarted_is_followed_on_and_ctrl_c_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UGRO_DATA", str(tmp_path / "data"))
    agent = Served(tmp_path)
    agent.agent.store.add_event("first", "before")
    run = start(tmp_path, "-n", "1", UGRO_AGENT=str(agent.path))
    try:
        assert text_of(run) == "before"
        agent.agent.store.add_event("second", "while it looks")
        assert text_of(run) == "while it looks"
        agent.close()
        with Store.open(f"sqlite:///{tmp_path}/ugro.db") as store:
            store.add_event("third", "nobody serves it")
        agent = Served(tmp_path)
        agent.agent.store.add_event("fourth", "the next agent")
        assert [text_of(run), text_of(run)] == ["nobody serves it", "the next agent"]
        assert ended(run, signal.SIGINT) == (130, "")
    finally:
        run.kill()
        agent.close()


def test_ctrl_c_and_a_reader_that_has_enough_end_it_quietly_without_an_agent(tmp_path: Path) -> None:
    with Store.open(f"sqlite:///{tmp_path}/mine/ugro.db") as store:
        store.add_event("first", "before")
        run, other = start(tmp_path), start(tmp_path)
        try:
            assert text_of(run) == text_of(other) == "before"
            assert ended(run, signal.SIGINT) == (130, "")
            assert other.stdout is not None and other.stderr is not None
            other.stdout.close()
            store.add_event("second", "nobody reads it")
            assert other.wait(timeout=30) == 0 and other.stderr.read() == ""
        finally:
            run.kill()
            other.kill()
