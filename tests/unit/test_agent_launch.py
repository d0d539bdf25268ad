# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C of `ugro launch` at the moment when the agent takes the job."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ugro_py import agent_launch
from ugro_py.api.client import Client
from ugro_py.request.job import JobRequest


class Slow(Client):
    """An agent that has the job already while Ctrl-C comes, so many times, and nobody has read its answer."""

    times = 1

    def submit(self, *_: Any, **__: Any) -> dict[str, Any]:
        for _number in range(self.times):
            os.kill(os.getpid(), signal.SIGINT)
        return {"job": "mine", "status": "pending"}


@pytest.fixture
def agent() -> Iterator[Slow]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield Slow(Path("/nowhere"))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "what was there is there again"
    signal.signal(signal.SIGINT, before)


def launch(agent: Client) -> None:
    agent_launch.launch(agent, JobRequest(name="mine"), None, detach=False, wait=True, as_json=False)


def test_who_gives_up_then_is_told_that_the_job_goes_on(agent: Slow, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        launch(agent)
    assert ended.value.code == 0
    assert "detached; job mine goes on" in capsys.readouterr().err


def test_a_second_time_ends_it(agent: Slow) -> None:
    agent.times = 2
    with pytest.raises(KeyboardInterrupt):
        launch(agent)


def test_who_ignores_it_is_left_alone(agent: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    followed: list[str] = []
    monkeypatch.setattr(agent_launch, "follow", lambda job, **_: followed.append(job))
    launch(agent)
    assert followed == ["mine"] and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signal.signal(signal.SIGINT, signal.default_int_handler)
