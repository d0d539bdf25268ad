# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""`ugro top` where there is nothing, where the agent goes and comes back, and on small and large terminals."""

# ruff: noqa: F811 - the fixtures
from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest
from rich.text import Text
from textual.app import App, ComposeResult

from tests.integration.support import UGRO
from tests.terminal import Terminal
from tests.unit.api_server import Serve, start  # noqa: F401 - a fixture
from tests.unit.top_world import JOB, World, job_store, world  # noqa: F401 - fixtures
from ugro_py import metrics
from ugro_py.cluster import Cluster
from ugro_py.top import look
from ugro_py.top.tables import LiveTable


def test_an_empty_cluster_and_an_agent_that_goes_and_comes_back(start: Serve, tmp_path: Path) -> None:
    served = start()
    served.agent.cluster = Cluster("void", (), tmp_path / "hosts.yml")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("UGRO_")}
    env = {**kept, "UGRO_AGENT": str(served.path), "HOME": str(tmp_path)}
    with Terminal([UGRO, "top"], env, columns=160) as terminal:  # the path of the socket may be long
        terminal.wait_for("void  0 nodes", "0 running", "No nodes yet. Add one with `ugro nodes add`.")
        terminal.wait_for("No job yet. Start one with `ugro launch`.")
        for key in "lsm\r":  # none of them has anything to do
            terminal.press(key)
        served.close()
        screen = terminal.wait_for("shown is what was ", "void  0 nodes")
        assert "agent" in screen
        back = start()
        back.agent.cluster = Cluster("void", (), tmp_path / "hosts.yml")
        back.agent.store.create_job("new", "ob", {})
        terminal.wait_for("new", "pending", "1 waiting")
        terminal.wait_for("shown is what was ", gone=True)
        terminal.press("q")
        assert terminal.end() == 0


@pytest.mark.parametrize("size", [(60, 20), (200, 60)])
def test_sizes_of_terminals(world: World, size: tuple[int, int]) -> None:
    columns, rows = size
    world.paths.rank_log(0).write_text("".join(f"line {number} {'w' * 150}\n" for number in range(100)) + "the end\n")
    command = [UGRO, "-i", world.inventory, "top"]
    with Terminal(command, {**os.environ, "COLORTERM": "truecolor"}, columns, rows) as terminal:
        screen = terminal.wait_for(JOB, "119/1000", "└", "step", "Quit", "STATUS", "LOSS").splitlines()
        assert len(screen) == rows and max(map(len, screen)) <= columns
        for column in ("NODE", "STATE", "UTIL", "JOB", "STATUS", "LOSS"):
            assert any(column in line.split() for line in screen), column
        wide = {"USER", "TIME", "WHY", "TYPE", "CPU"} <= {word for line in screen for word in line.split()}
        assert wide is (columns == 200)
        assert ("rank" in "\n".join(screen) and "GPU %" in "\n".join(screen)) is (columns == 200), "the ranks beside it"
        assert "Quit" in screen[-1] and "1 running, 1 waiting" in screen[0]
        assert not [line for line in screen if "▎" in line], "a table is wider than the terminal"
        terminal.press("?")
        terminal.wait_for("no job ends by that")
        terminal.press("\x1b")
        terminal.wait_for("no job ends by that", gone=True)
        terminal.press("s")
        terminal.wait_for(f"Stop {JOB}", "Let it run (n)", "Kill now (k)")
        terminal.press("n")
        terminal.wait_for("Let it run (n)", gone=True)
        terminal.press("l")
        terminal.wait_for("the end")
        terminal.press("/line 7 \r")
        screen = terminal.wait_for("0│line 7", "“line 7 ”")
        assert max(map(len, screen.splitlines())) <= columns
        terminal.press("q")
        terminal.wait_for("119/1000")
        terminal.press("q")
        assert terminal.end() == 0


def test_no_number_is_cut(world: World) -> None:
    """As long as numbers can be, on terminals of any width: a column is there with all of its numbers, or not there."""
    rows = [
        {column: Text("0.002506" if column == "LOSS" else "x" * 9) for column in look.JOB_COLUMNS},
        {column: Text("-1.7e+308" if column == "LOSS" else "a" * 7) for column in look.JOB_COLUMNS},
    ]
    shown = [look.fitting(rows, look.JOB_COLUMNS, look.JOBS_NEED, width) for width in range(1, 200)]
    for width, columns in enumerate(shown, 1):
        whole = [column for column in columns if column != "WHY"]
        assert columns[0] == "JOB" and (11 * len(whole) <= width or len(whole) == 1), (width, columns)
    assert shown[39] == ("JOB", "STATUS", "LOSS") and shown[199 - 1] == look.JOB_COLUMNS
    for at in range(3):
        world.jobs.step(world.attempt, at, 200, -1.7e308 / (at + 1), total_steps=1000)
    metrics.rebuild(world.paths)
    for words in ((), ("--once",)):
        with Terminal([UGRO, "-i", world.inventory, "top", *words], {**os.environ}, 40, 24) as terminal:
            screen = terminal.wait_for("LOSS", "e+")
            assert "e+30" in screen and not re.search(r"e\+(3|30)?\s", screen), screen
            if not words:
                terminal.press("q")
            assert terminal.end() == 0


def test_a_short_name_of_a_job_is_whole_beside_its_gpu() -> None:
    cells = {"NODE": "gpu-master", "STATE": "healthy", "GPU": "0", "UTIL": "██▌   50%", "JOB": "ctc"}
    rows = [dict.fromkeys(look.NODE_COLUMNS, Text("-")) | {name: Text(text) for name, text in cells.items()}]
    for width in range(1, 200):
        found = look.fitting(rows, look.NODE_COLUMNS, look.NODES_NEED, width)
        taken = sum(2 + max(len(name), rows[0][name].cell_len) for name in found if name != "WHY")
        assert found[0] == "NODE" and (taken <= width or found == ("NODE", "JOB") or width < 17), (width, found)
    rows[0]["JOB"] = Text("long" * 16)
    assert look.fitting(rows, look.NODE_COLUMNS, look.NODES_NEED, 40) == ("NODE", "STATE", "GPU", "JOB")


@pytest.mark.parametrize("again", [["fir"], ["first_test", "other"], ["longer_than_before"]])
def test_a_table_drawn_before_it_rests_is_not_cut(again: list[str]) -> None:
    """The screen may draw a table at any moment, also before the table itself comes to think about its new rows."""

    def rows(names: list[str]) -> dict[str, dict[str, Text]]:
        return {str(at): dict.fromkeys(look.JOB_COLUMNS, Text("-")) | {"JOB": Text(n)} for at, n in enumerate(names)}

    def drawn(table: LiveTable, names: list[str]) -> list[str]:
        return [table.render_line(line).text.split()[0] for line in range(1 + len(names))]

    class Alone(App[None]):
        def compose(self) -> ComposeResult:
            yield LiveTable(look.JOBS_NEED, id="jobs")

    async def go() -> None:
        app = Alone()
        async with app.run_test(size=(100, 20)) as pilot:
            table = app.query_one(LiveTable)
            for names in (["first_test"], again):
                table.show(rows(names), look.JOB_COLUMNS)
                now = drawn(table, names)
                await pilot.pause()
                assert now == drawn(table, names) == ["JOB", *names]

    asyncio.run(go())


def test_the_first_line_says_as_much_as_there_is_room_for() -> None:
    gpus = [{"kind": "cuda", "job": "one"}] * 96 + [{"kind": "cuda", "job": None}] * 24
    found = {
        "cluster": "the-basement", "at": "2026-01-20T12:05:30Z", "jobs": [{"status": "running"}] * 12,
        "nodes": [{"state": "healthy", "gpus": gpus}] + [{"state": "degraded", "gpus": []}] * 29,
    }  # fmt: skip
    words = "30 nodes (1 healthy) · 96 of 120 GPUs used · 12 running, 0 waiting"
    assert look.head(found, 78) == f"{words}  12:05:30Z", "at 80 columns nothing goes but the name"
    assert look.head(found, 130) == f"the-basement  {words}  12:05:30Z"
    assert look.head(found, len(words)) == words
    assert look.head(found, 62) == words.replace(" used", "")
