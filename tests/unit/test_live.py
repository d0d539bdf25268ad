# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What `ugro launch` shows while a job runs, of metrics of every kind."""

from __future__ import annotations

import io
import math
import time
from typing import Any

import pytest
import rich
from rich.console import Console

from ugro_py.agent_follow import _Seen
from ugro_py.errors import JobFailedError
from ugro_py.gang import Outcome
from ugro_py.launch_cli import report
from ugro_py.live import Progress


def metrics(progress: Progress, step: Any, loss: Any, rank: int = 0, attempt: int = 1, **values: Any) -> None:
    event = {
        "kind": "metrics",
        "t": 100.0 + (step if isinstance(step, int) and step < 10**9 else 0),
        "rank": rank,
        "step": step,
    }
    progress("event", {"node": "gpu1", "attempt": attempt, "event": {**event, "training_loss": loss, **values}})


@pytest.fixture
def progress() -> Progress:
    made = Progress("first_test", live=False)
    for rank in (0, 1):
        progress_event = {"kind": "rank_started", "rank": rank, "pid": 1}
        made("event", {"node": "gpu1", "attempt": 1, "event": progress_event})
    return made


def drawn(progress: Progress, monkeypatch: pytest.MonkeyPatch, height: int = 40) -> str:
    """Return what the live view shows on a terminal of that height."""
    out = io.StringIO()
    console = Console(file=out, width=100, height=height, force_terminal=True, color_system=None)
    monkeypatch.setattr(rich, "get_console", lambda: console)
    console.print(progress._drawn())
    return out.getvalue()


def test_a_curve_below_the_ranks_where_there_is_room(progress: Progress, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in range(1, 5001):
        metrics(progress, step, 5 / step, total_steps=10_000, throughput_tokens_sec=100)
    screen = drawn(progress, monkeypatch)
    assert "first_test" in screen and "ETA 1h23m" in screen and "100 tokens/s" in screen
    assert "5000/10000" in screen and "5.00 ┤" in screen and "┬" in screen
    assert len(progress._losses) <= 2000 and progress._losses[0] == (1, 5.0) and progress._losses[-1][0] == 5000
    assert len(screen.splitlines()) < 40
    low = drawn(progress, monkeypatch, 15)
    assert "5000/10000" in low and "5.00 ┤" not in low
    assert len(low.splitlines()) < 15


def test_a_retry_draws_its_own_steps(progress: Progress) -> None:
    for step in (1, 2, 3, 4, 3, 4):
        metrics(progress, step, 10.0 * step + len(progress._losses))
    assert [step for step, _ in progress._losses] == [1, 2, 3, 4]
    assert progress._losses[2] == (3, 34.0)


@pytest.mark.parametrize("begin", [1, 101, 201])
def test_a_retry_has_a_pace_and_ranks_of_its_own(
    progress: Progress, monkeypatch: pytest.MonkeyPatch, begin: int
) -> None:
    """It begins anew, from a checkpoint, or where the first ended: slower, a while later, with one rank less."""
    for step in range(51, 201):
        for rank in (0, 1):
            metrics(progress, step, 1.0, rank, total_steps=1000, throughput_tokens_sec=100)
    assert "ETA 13m20s" in drawn(progress, monkeypatch)
    started = {"kind": "rank_started", "rank": 0, "pid": 2}
    progress("event", {"node": "gpu1", "attempt": 2, "event": started})
    metrics(progress, begin, 1.0, attempt=2, total_steps=1000, t=500.0)
    assert "ETA -" in drawn(progress, monkeypatch), "one step has no pace"
    for step in range(begin + 1, begin + 11):
        metrics(
            progress, step, 1.0, attempt=2, total_steps=1000, t=500.0 + 2 * (step - begin), throughput_tokens_sec=50
        )
    left = {1: "32m58s", 101: "29m38s", 201: "26m18s"}[begin]
    screen = drawn(progress, monkeypatch)
    assert f"ETA {left}" in screen and " 50 tokens/s" in screen
    assert screen.count("gpu1") == 1, "the rank that there is no more is not shown"


def test_a_retry_that_an_agent_controls_tells_its_own_steps() -> None:
    seen: list[tuple[int | None, Any, float]] = []

    class Heard(Progress):
        def __call__(self, kind: str, data: Any) -> None:
            if kind == "event" and data["event"]["kind"] == "metrics":
                seen.append((data["attempt"], data["event"]["step"], data["event"]["t"]))

    def state(attempt: int, told_by: int, step: int) -> dict[str, Any]:
        line = {"attempt": told_by, "rank": 0, "step": step, "t": 3.5, "kind": 1}  # numbers of the script
        rank = {"rank": 0, "node": "gpu1", "pid": 1, "metrics": line}
        return {"status": "running", "reason": "", "attempt": attempt, "sync_window_s": 0.1, "ranks": [rank]}

    job = _Seen(Heard("first_test", live=False))
    # The second attempt begins at the step at which the first one failed, and has told nothing at first.
    for attempt, told_by, step in ((1, 1, 40), (1, 1, 41), (1, 1, 41), (2, 1, 41), (2, 2, 41), (2, 2, 42)):
        job.state(state(attempt, told_by, step))
    assert [(attempt, step) for attempt, step, _ in seen] == [(1, 40), (1, 41), (2, 41), (2, 42)]
    assert all(abs(t - time.time()) < 600 for _, _, t in seen)


def test_metrics_that_are_no_numbers(
    progress: Progress, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for value in (None, "high", True, [1], math.nan, math.inf, 10**400):
        metrics(progress, value, value, total_steps=value, throughput_tokens_sec=value, gpu_util=value)
        assert "gpu1" in drawn(progress, monkeypatch)
    assert progress._losses == []
    assert "step -  loss -  -  ETA -" in capsys.readouterr().out


def test_last_lines_of_a_rank_cannot_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = Outcome("failed", "rank 0 failed", 1, last_lines=["bad \x1b]0;pwned\x07\x1b]52;c;aGk=\x1b\\ \x9b2J<b>\r"])
    with pytest.raises(JobFailedError):
        report(outcome, "job", as_json=False)
    assert capsys.readouterr().err == "  | bad  2J<b>\n"
