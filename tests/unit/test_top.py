# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""`ugro top`: what it shows and what its keys do, in Textual's own harness over a real store."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.text import Text
from textual.pilot import Pilot
from textual.widgets import DataTable, Input, RichLog, Static

from tests.unit.api_server import Served
from tests.unit.top_world import HOSTILE, JOB, STEPS, World, job_store, world  # noqa: F401 - fixtures
from ugro_py import metrics
from ugro_py.api.client import Client
from ugro_py.cli import cli
from ugro_py.errors import StateError
from ugro_py.now import snapshot
from ugro_py.paths import JobPaths
from ugro_py.top.app import TopApp
from ugro_py.top.doors import AgentDoor, Door, StoreDoor
from ugro_py.top.screens import LogsScreen, StopScreen, shown

Check = Callable[[TopApp, "Hand"], Awaitable[None]]


class Hand:
    """Presses keys and waits for what they do."""

    def __init__(self, app: TopApp, pilot: Pilot[None]) -> None:
        self.app, self.pilot = app, pilot

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def until(self, condition: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain: {what}\n{self.rows('nodes')}\n{self.rows('jobs')}"
            await self.pilot.pause(0.02)

    def rows(self, name: str) -> dict[str, dict[str, str]]:
        """Return the rows of a table, column -> text, by their first cell."""
        table = self.app.screen_stack[0].query_one(f"#{name}", DataTable)
        columns = [str(column.label) for column in table.columns.values()]
        found = [dict(zip(columns, map(str, table.get_row(key)), strict=True)) for key in table.rows]
        return {row[columns[0]]: row for row in found}

    def text(self, name: str) -> str:
        return str(self.app.screen_stack[0].query_one(f"#{name}", Static).content)


def top(check: Check, size: tuple[int, int] = (130, 40), door: Callable[[], Door] | None = None) -> None:
    """Run the application over the store of the test, and `check` in it."""

    async def go() -> None:
        app = TopApp(door or (lambda: StoreDoor("hosts.yml")), every_s=0.1)
        async with app.run_test(size=size) as pilot:
            await check(app, Hand(app, pilot))

    asyncio.run(go())


@pytest.fixture(autouse=True)
def in_folder(world: World, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.chdir(world.inventory.parent)


def test_nodes_jobs_and_the_curve_of_the_one_that_runs() -> None:
    async def check(app: TopApp, hand: Hand) -> None:
        await hand.until(lambda: "└" in hand.text("curve"), "the curve is drawn")
        assert "3 nodes" in hand.text("head") and "1 running, 1 waiting" in hand.text("head")
        first = hand.rows("nodes")["gpu-master"]
        assert (first["TYPE"], first["JOB"]) == ("NVIDIA GeForce RTX 4090", JOB)
        assert first["UTIL"].endswith("87%") and first["MEMORY"] == "9.8/24 GB"
        assert (first["°C"], first["W"], first["CPU"].strip()) == ("71", "301", "20%")
        assert hand.rows("nodes")["gpu2"]["UTIL"].endswith("80%")  # a CPU slot is as busy as its node
        job = hand.rows("jobs")[JOB]
        assert (job["STATUS"], job["USER"], job["STEP"], job["LOSS"]) == ("running", "ob", "119/1000", "1.512")
        assert job["TOKENS/S"] == "303"
        assert job["ETA"] == "14 min 41 s"  # a step a second, 881 are left
        assert hand.rows("jobs")["done"]["STATUS"] == "completed"
        assert JOB in hand.text("title")

    top(check)


def test_what_changes_is_shown_and_what_is_chosen_stays_chosen(world: World) -> None:  # noqa: F811
    async def check(app: TopApp, hand: Hand) -> None:
        table = app.query_one("#jobs", DataTable)
        await hand.until(lambda: JOB in hand.text("title"), "the job that runs is chosen")
        await hand.press("down" if table.cursor_row == 0 else "up")
        await hand.until(lambda: JOB not in hand.text("title"), "another one is chosen")
        chosen = hand.text("title").split()[0]
        world.step(STEPS, 1.25)
        metrics.rebuild(world.paths)
        await hand.until(lambda: hand.rows("jobs")[JOB]["LOSS"] == "1.25", "the newest loss")
        world.store.create_job("newer", "eve", {})
        await hand.until(lambda: "newer" in hand.rows("jobs"), "the new job")
        assert hand.text("title").split()[0] == chosen

    top(check)


def test_enter_shows_one_job_alone_and_m_other_curves() -> None:
    async def check(app: TopApp, hand: Hand) -> None:
        await hand.until(lambda: "└" in hand.text("curve"), "the curve is drawn")
        small = len(hand.text("curve").splitlines())
        await hand.press("enter")
        await hand.until(lambda: len(hand.text("curve").splitlines()) > 1.5 * small, "the curve is large")
        assert not app.query_one("#nodes").display or not app.query_one("#nodes").size.height
        await hand.press("m")
        await hand.until(lambda: hand.text("curve").startswith("tokens/s\n"), "the throughput")
        await hand.press("m")
        await hand.until(lambda: hand.text("curve").startswith("learning rate\n"), "the learning rate")
        await hand.press("m")
        await hand.until(lambda: hand.text("curve") == "gradient norm: no curve yet", "none was told")
        await hand.press("escape")
        await hand.until(lambda: app.query_one("#nodes").size.height > 0, "everything is there again")

    top(check)


def test_the_filter() -> None:
    async def check(app: TopApp, hand: Hand) -> None:
        await hand.until(lambda: len(hand.rows("jobs")) == 3, "all jobs")
        await hand.press("slash", *"ANN pend")
        await hand.until(lambda: list(hand.rows("jobs")) == ["waits"], "one job fits")
        assert hand.rows("nodes") == {}
        await hand.press("enter")
        assert app.query_one("#filter", Input).display  # one sees that not everything is shown
        await hand.press("escape")
        await hand.until(lambda: len(hand.rows("jobs")) == 3, "all jobs again")
        assert not app.query_one("#filter", Input).display

    top(check)


def test_hostile_texts_are_only_shown() -> None:
    async def check(app: TopApp, hand: Hand) -> None:
        await hand.until(lambda: "waits" in hand.rows("jobs"), "the job")
        assert hand.rows("jobs")["waits"]["WHY"] == "waits for 2 GPUs [red]markup[/red] [@click=app.quit()] over"
        app.query_one("#jobs", DataTable).move_cursor(row=list(hand.rows("jobs")).index("waits"))
        await hand.until(lambda: hand.text("title").startswith("waits"), "the job is chosen")
        await hand.until(lambda: "[red]markup[/red] [@click=app.quit()]" in hand.text("curve"), "why it waits")
        assert "\x1b" not in hand.text("curve")
        await hand.press("slash", *"[red]markup[/red]")
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
    assert (job["step"], job["loss"], job["throughput_tokens_sec"]) == (None, None, 203.0)  # of ranks 1 and 2
    with world.paths.metrics.open("ab") as file:
        file.write(b"\n" + huge)
    job = next(j for j in snapshot(world.store, StoreDoor("hosts.yml")._inventory.cluster)["jobs"] if j["job"] == JOB)
    assert job["step"] is None

    async def check(app: TopApp, hand: Hand) -> None:
        await hand.until(lambda: hand.rows("jobs").get(JOB, {}).get("LOSS") == "-", "no loss")
        await hand.until(lambda: "└" in hand.text("curve"), "the curve of what is a number")

    top(check)


@pytest.mark.parametrize("size", [(80, 24), (40, 12), (20, 6)])
def test_narrow_terminals(size: tuple[int, int]) -> None:
    async def check(app: TopApp, hand: Hand) -> None:
        await hand.until(lambda: JOB in hand.rows("jobs"), "the job")
        assert {"JOB", "STATUS", "STEP", "LOSS"} <= set(hand.rows("jobs")[JOB])
        assert ("USER" in hand.rows("jobs")[JOB]) is False
        if size == (80, 24):
            await hand.until(lambda: "└" in hand.text("curve"), "the curve is drawn")
            table = app.query_one("#jobs", DataTable)
            assert table.virtual_size.width <= 80, "all columns fit"
        await hand.pilot.resize_terminal(130, 40)
        await hand.until(lambda: "USER" in hand.rows("jobs").get(JOB, {}), "more room, more columns")

    top(check, size)


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
    assert shown(line, several=True).plain == "3│ared2J[bold]"
    assert shown(b"ugro: job 'x': \x1b[2Jgone", several=True).plain == "ugro: job 'x': gone"
    assert isinstance(shown(b"\xff{", several=False), Text)


def test_stop_asks_first(world: World) -> None:  # noqa: F811
    async def check(app: TopApp, hand: Hand) -> None:
        await hand.until(lambda: JOB in hand.text("title"), "the job is chosen")
        for no in ("n", "escape", "q", "enter"):  # `enter` presses the button that is chosen: let it run
            await hand.press("s")
            await hand.until(lambda: isinstance(app.screen, StopScreen), "the question")
            await hand.press(no)
            await hand.until(lambda: not isinstance(app.screen, StopScreen), f"{no} leaves")
        table = app.query_one("#jobs", DataTable)
        table.move_cursor(row=list(hand.rows("jobs")).index("done"))
        await hand.until(lambda: hand.text("title").startswith("done"), "the job that ended")
        await hand.press("s")
        assert not isinstance(app.screen, StopScreen)
        await hand.until(lambda: any("has ended already" in n.message for n in app._notifications), "it is told")

    top(check)
    assert world.store.job(JOB).status == "running" and not world.store.job(JOB).stop_requested


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


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_ends_it_instead_of_showing_what_was() -> None:
    class Broken(StoreDoor):
        def snapshot(self) -> dict[str, Any]:
            raise ZeroDivisionError("in the poller")

    async def check(app: TopApp, hand: Hand) -> None:
        await hand.until(lambda: app.return_code is not None, "it ends")

    with pytest.raises(ZeroDivisionError, match="in the poller"):
        top(check, door=lambda: Broken("hosts.yml"))


def test_once_and_json(world: World) -> None:  # noqa: F811
    done = CliRunner().invoke(cli, ["-i", "hosts.yml", "top", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [node["node"] for node in found["nodes"]] == ["gpu-master", "gpu1", "gpu2"]
    assert {job["job"]: job["status"] for job in found["jobs"]} == {
        JOB: "running",
        "waits": "pending",
        "done": "completed",
    }
    once = CliRunner().invoke(cli, ["-i", "hosts.yml", "top", "--once"])
    assert "NVIDIA GeForce RTX 4090" in once.stdout and "119/1000" in once.stdout and "[red]markup" in once.stdout
    assert "\x1b" not in once.stdout
    refused = CliRunner().invoke(cli, ["-i", "hosts.yml", "top"])
    assert "needs a terminal; `ugro top --once`" in str(refused.exception)


def test_through_an_agent_it_is_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    served = Served(world.inventory.parent / "data")
    try:
        served.agent.cluster = StoreDoor("hosts.yml")._inventory.cluster
        door = AgentDoor(Client(served.path))
        theirs, ours = door.snapshot(), snapshot(world.store, served.agent.cluster)
        for one in (theirs, ours):
            for job in one["jobs"]:
                del job["age_s"], job["duration_s"]
            del one["at"]
        assert theirs == ours
        assert door.curve("no-such-job", "training_loss", 10) == []

        async def check(app: TopApp, hand: Hand) -> None:
            await hand.until(lambda: "└" in hand.text("curve"), "the curve is drawn")
            assert hand.rows("jobs")[JOB]["STEP"] == "119/1000"

        top(check, door=lambda: door)
    finally:
        served.close()


def test_the_reason_is_hostile_indeed() -> None:
    assert "\x1b" in HOSTILE and JobPaths(JOB).metrics.exists()
