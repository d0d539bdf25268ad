# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""`ugro top` over what is hostile, broken or away: shown safely, told, and never the end of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text
from textual.widgets import DataTable, Input, RichLog

from tests.unit.top_hand import Hand, in_folder, top  # noqa: F401 - a fixture
from tests.unit.top_world import JOB, World, job_store, world  # noqa: F401 - fixtures
from ugro_py.errors import StateError
from ugro_py.now import snapshot
from ugro_py.top.app import TopApp
from ugro_py.top.doors import Points, StoreDoor
from ugro_py.top.log_lines import shown
from ugro_py.top.screens import LogsScreen, StopScreen


def test_hostile_texts_are_only_shown() -> None:
    async def check(app: TopApp, hand: Hand) -> None:
        await hand.until(lambda: "waits" in hand.rows("jobs"), "the job")
        assert hand.rows("jobs")["waits"]["WHY"] == "waits for 2 GPUs [red]markup[/red] [@click=app.quit()] over"
        app.query_one("#jobs", DataTable).move_cursor(row=list(hand.rows("jobs")).index("waits"))
        await hand.until(lambda: hand.text("title").startswith("waits"), "the job is chosen")
        await hand.until(lambda: "[red]markup[/red] [@click=app.quit()]" in hand.text("curve"), "why it waits")
        assert "\x1b" not in hand.text("curve")
        await hand.press("slash")
        await hand.until(lambda: isinstance(app.focused, Input), "letters go there")
        await hand.press(*"[red]markup[/red]")
        await hand.until(lambda: list(hand.rows("jobs")) == ["waits"], "the filter takes it as text too")

    top(check)


def test_metrics_that_are_no_numbers_are_left_out(world: World) -> None:  # noqa: F811
    line = {"job_id": JOB, "attempt": 1, "rank": 0, "training_loss": "high", "step": True, "throughput_tokens_sec": [1]}
    broken = b'{"rank": 0, "training_loss": NaN, "step": Infinity}\n{"rank": {}}\n[1]\n{"rank": 0, "step":'
    huge = b'{"rank": 0, "step": ' + b"9" * 400 + b', "text": "' + b"x" * 10_000_000 + b'"}\n'
    with world.paths.metrics.open("ab") as file:
        file.write(json.dumps(line).encode() + b"\n" + broken)
    found = snapshot(world.store, StoreDoor("hosts.yml")._inventory.cluster)
    json.dumps(found, allow_nan=False)
    job = next(job for job in found["jobs"] if job["job"] == JOB)
    of_ranks_1_and_2 = (pytest.approx(5 * 0.99**119), 203.0)
    assert (job["step"], (job["loss"], job["throughput_tokens_sec"])) == (None, of_ranks_1_and_2)
    with world.paths.metrics.open("ab") as file:
        file.write(b"\n" + huge)
    job = next(j for j in snapshot(world.store, StoreDoor("hosts.yml")._inventory.cluster)["jobs"] if j["job"] == JOB)
    assert job["step"] is None

    async def check(app: TopApp, hand: Hand) -> None:
        await hand.until(lambda: hand.rows("jobs").get(JOB, {}).get("LOSS") == "-", "no loss")
        await hand.until(lambda: "└" in hand.text("curve"), "the curve of what is a number")

    top(check)


def test_logs(world: World) -> None:  # noqa: F811
    lines = [
        "first",
        "\x1b[32mgreen\x1b[0m [red]no markup[/red]",
        "\x1b]0;title\x07\x1b[2Jcleared?",
        "tab\tbed",
        "x" * 10_000_000,
    ]
    world.paths.rank_log(0).write_text("\n".join(lines) + "\n")
    world.paths.rank_log(1).write_text("of rank one\n")

    async def check(app: TopApp, hand: Hand) -> None:
        await hand.until(lambda: JOB in hand.text("title"), "the job is chosen")
        await hand.press("l")
        assert isinstance(app.screen, LogsScreen)

        def said() -> str:
            return "\n".join(strip.text.rstrip() for strip in app.screen.query_one(RichLog).lines)

        await hand.until(lambda: "of rank one" in said(), "both logs")
        assert "0│first\n0│green [red]no markup[/red]\n0│cleared?\n0│tab     bed\n0│xxxx" in said()
        assert "more characters, see `ugro logs`" in said()
        with world.paths.rank_log(1).open("a") as file:
            file.write("printed just now\n")
        await hand.until(lambda: "1│printed just now" in said(), "what comes")
        await hand.press("r", "r")
        await hand.until(lambda: said() == "of rank one\nprinted just now", "rank 1 alone")
        await hand.press("escape")
        await hand.until(lambda: not isinstance(app.screen, LogsScreen), "back")

    top(check)


def test_a_line_of_a_log_is_only_shown() -> None:
    line = json.dumps({"rank": 3, "line": "a\x1b[31mred\x1b[0m\x1b[5A\x9b2J[bold]"}).encode()
    assert shown(line, several=True).text.plain == "3│ared2J[bold]"
    assert shown(b"ugro: job 'x': \x1b[2Jgone", several=True).text.plain == "ugro: job 'x': gone"
    assert isinstance(shown(b"\xff{", several=False).text, Text)


def test_what_a_stop_that_is_refused_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def check(app: TopApp, hand: Hand) -> None:
        await hand.until(lambda: JOB in hand.text("title"), "the job is chosen")
        monkeypatch.setenv(
            "UGRO_AGENT", str(tmp_path / "nobody.sock")
        )  # now it is for an agent to do, who is not there
        await hand.press("s")
        await hand.until(lambda: isinstance(app.screen, StopScreen), "the question")
        await hand.press("k")
        await hand.until(lambda: [n for n in app._notifications if n.severity == "error"], "it is told")
        told = next(n for n in app._notifications if n.severity == "error")
        assert told.message.startswith(f"ugro: agent at {tmp_path}/nobody.sock: "), told
        assert not told.markup

    top(check)


def test_a_store_that_is_away_is_told_and_comes_back() -> None:
    state = {"away": False}

    class Flaky(StoreDoor):
        def snapshot(self) -> dict[str, Any]:
            if state["away"]:
                raise StateError("state database", "cannot be\x1b[2J opened [red]", "wait")
            return super().snapshot()

    async def check(app: TopApp, hand: Hand) -> None:
        await hand.until(lambda: JOB in hand.rows("jobs"), "the job")
        state["away"] = True
        await hand.until(lambda: app.query_one("#problem").display, "it is told")
        assert "state database: cannot be opened [red]; wait (shown is what was" in hand.text("problem")
        assert JOB in hand.rows("jobs")
        state["away"] = False
        await hand.until(lambda: not app.query_one("#problem").display, "it is back")

    top(check, door=lambda: Flaky("hosts.yml"))


def test_without_a_curve_all_else_is_shown() -> None:
    class Full(StoreDoor):
        def curve(self, job: str, column: str, points: int) -> Points:
            raise OSError(28, "No space left on device")

    async def check(app: TopApp, hand: Hand) -> None:
        await hand.until(lambda: "No space left on device" in hand.text("problem"), "it is told")
        assert app.query_one("#problem").display and hand.rows("jobs")[JOB]["STEP"] == "119/1000"
        assert "shown is what was" not in hand.text("problem")

    top(check, door=lambda: Full("hosts.yml"))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_ends_it_instead_of_showing_what_was() -> None:
    class Broken(StoreDoor):
        def snapshot(self) -> dict[str, Any]:
            raise ZeroDivisionError("in the poller")

    async def check(app: TopApp, hand: Hand) -> None:
        await hand.until(lambda: app.return_code is not None, "it ends")

    with pytest.raises(ZeroDivisionError, match="in the poller"):
        top(check, door=lambda: Broken("hosts.yml"))
