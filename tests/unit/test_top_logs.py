# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The search in the logs of `ugro top`: forth, back, in lines of megabytes, across colours and ends of rows."""

# ruff: noqa: F811 - the fixtures
from __future__ import annotations

import pytest
from textual.widgets import DataTable, Input, Static

from tests.unit.top_hand import Hand, in_folder, top  # noqa: F401 - a fixture
from tests.unit.top_world import JOB, World, job_store, world  # noqa: F401 - fixtures
from ugro_py.paths import JobPaths
from ugro_py.top.app import TopApp
from ugro_py.top.log_lines import LogLines
from ugro_py.top.screens import KEYS, LogsScreen

LONG = "x" * 6_000_000 + "NeedLe" + "x" * 4_000_000


class Logs:
    """The screen of logs, opened."""

    def __init__(self, app: TopApp, hand: Hand) -> None:
        self.app, self.hand = app, hand

    async def open(self, last: str) -> LogLines:
        """Open the logs and wait until a line is there."""
        await self.hand.until(lambda: JOB in self.hand.text("title"), "the job is chosen")
        await self.hand.press("l")
        assert isinstance(self.app.screen, LogsScreen)
        self.lines = self.app.screen.query_one(LogLines)
        await self.hand.until(lambda: any(last in strip.text for strip in self.lines.lines), f"the line {last!r}")
        return self.lines

    async def search(self, words: str) -> None:
        await self.hand.press("slash")
        field = self.app.screen.query_one("#search", Input)
        assert field.display and field.has_focus
        field.value = words
        await self.hand.press("enter")
        assert not field.display and self.lines.has_focus

    @property
    def title(self) -> str:
        return str(self.app.screen.query_one("#logs-title", Static).content)

    def screen(self) -> list[str]:
        """What is on the screen."""
        return [self.lines.render_line(y).text.rstrip() for y in range(self.lines.size.height)]

    def marked(self) -> list[str]:
        """What is marked on the screen."""
        return [
            segment.text
            for y in range(self.lines.size.height)
            for segment in self.lines.render_line(y)
            if segment.style is not None and segment.style.reverse
        ]


def test_a_job_that_waits_says_for_what(world: World) -> None:
    async def check(app: TopApp, hand: Hand) -> None:
        await hand.until(lambda: "waits" in hand.rows("jobs"), "the job that waits")
        app.query_one("#jobs", DataTable).move_cursor(row=list(hand.rows("jobs")).index("waits"))
        await hand.until(lambda: hand.text("title").startswith("waits"), "it is chosen")
        await hand.press("l")
        lines = app.screen.query_one(LogLines)
        await hand.until(lambda: any("waits: waits for" in strip.text for strip in lines.lines), "why it waits")
        own = JobPaths("waits").rank_log(0)
        own.parent.mkdir(parents=True)
        own.write_text("it has begun\n")
        await hand.until(lambda: any("it has begun" in strip.text for strip in lines.lines), "its first line")
        assert not any("waits for" in strip.text for strip in lines.lines)

    top(check)


@pytest.mark.parametrize("size", [(100, 30), (76, 24), (30, 12)])
def test_the_keys_are_told_whole(size: tuple[int, int]) -> None:
    async def check(app: TopApp, hand: Hand) -> None:
        await hand.press("question_mark")
        await hand.until(lambda: bool(app.screen.query("#keys Static")), "the box")
        told, box = app.screen.query_one("#keys Static", Static), app.screen.query_one("#keys")
        await hand.until(lambda: told.size.height > 0, "it is drawn")
        shown = [told.render_line(y).text.split() for y in range(told.size.height)]
        words = " ".join(word for line in shown for word in line)
        for meaning in KEYS.values():
            assert meaning in words or size[0] < 76
            assert set(meaning.split()) <= set(words.split())
        await hand.press("end")
        await hand.until(lambda: box.scroll_offset.y == max(0, told.size.height - size[1] + 2), "down to its end")
        assert size[0] < 76 or told.size.height <= len(KEYS) + 1

    top(check, size)


def test_forth_back_and_around(world: World) -> None:
    text = "".join(
        f"line {number} {'ERROR: it burns' if number in (50, 200) else 'is well'}\n" for number in range(400)
    )
    world.paths.rank_log(0).write_text(text)

    async def check(app: TopApp, hand: Hand) -> None:
        logs = Logs(app, hand)
        await logs.open("line 399")
        await logs.search("error: IT")
        await hand.until(lambda: any("line 50 " in row for row in logs.screen()), "after the end comes the first")
        assert "from the first line on" in logs.title and "held: f follows again" in logs.title
        assert logs.marked() == ["ERROR: it"]
        await hand.press("n")
        await hand.until(lambda: any("line 200 " in row for row in logs.screen()), "the next")
        assert "from the" not in logs.title and "“error: IT”" in logs.title
        await hand.press("N")
        await hand.until(lambda: any("line 50 " in row for row in logs.screen()), "the one before")
        await hand.press("N")
        await hand.until(lambda: any("line 200 " in row for row in logs.screen()), "the last")
        assert "from the last line on" in logs.title
        # More comes, and what is looked at stays where it is.
        with world.paths.rank_log(0).open("a") as file:
            file.write("one more\n")
        await hand.until(lambda: any("one more" in strip.text for strip in logs.lines.lines), "what comes")
        assert any("line 200 " in row for row in logs.screen())
        await logs.search("no such text")
        assert "“no such text” not found" in logs.title
        await hand.press("f")
        await hand.until(lambda: any("one more" in row for row in logs.screen()), "it follows again")
        # Escape leaves the field first; letters in it are no commands, and no filter of the screen below.
        await hand.press("slash", "q", "l", "n")
        assert app.screen.query_one("#search", Input).value == "qln"
        await hand.press("escape")
        assert isinstance(app.screen, LogsScreen)
        await hand.press("escape")
        await hand.until(lambda: not isinstance(app.screen, LogsScreen), "back")
        assert len(hand.rows("jobs")) == 3

    top(check, (80, 24))


def test_ten_megabytes_colours_and_wide_letters(world: World) -> None:
    lines = [
        "first", LONG, "col\x1b[31moured ne\x1b[32medle\x1b[0m", "日本 needle 日本", "[needle]",
        "y" * 150 + "needle", "last",
    ]  # fmt: skip
    world.paths.rank_log(0).write_text("\n".join(lines) + "\n")

    async def check(app: TopApp, hand: Hand) -> None:
        logs = Logs(app, hand)
        await logs.open("last")
        await hand.press("home")
        await hand.until(lambda: logs.screen()[0] == "0│first", "the first line")
        await logs.search("needle")
        assert "left out here: …xxxxx" in logs.title and "xxNeedLexx" in logs.title
        await hand.until(lambda: "more characters" in " ".join(logs.screen()), "the end of what is drawn")
        for found in ("coloured needle", "日本 needle 日本", "[needle]"):
            await hand.press("n")
            assert "“needle” " in logs.title and "left out" not in logs.title
            await hand.until(lambda found=found: any(found in row for row in logs.screen()), found)
        assert {"needle"} == {"".join(logs.marked())[:6]}
        # Where a row of the screen ends within what is looked for, both parts are marked.
        await hand.press("n")
        await hand.until(lambda: logs.screen()[-1] != "" and "last" in "".join(logs.screen()), "the last but one")
        await logs.search("yneedle")
        assert "".join(logs.marked()) == "yneedle"
        # The number of the rank is none of what was printed.
        await logs.search("0│")
        assert "not found in the last" in logs.title

    top(check, (78, 24))


def test_a_sea_of_long_lines_is_bounded(world: World, monkeypatch: object) -> None:
    from ugro_py.top import log_lines

    async def check(app: TopApp, hand: Hand) -> None:
        logs = Logs(app, hand)
        lines = await logs.open("last")
        assert lines._longest <= log_lines._SEARCHED
        await logs.search("number 11")
        assert "left out here: …" in logs.title
        await logs.search("number 0,")  # too long ago
        assert "not found in the last" in logs.title

    world.paths.rank_log(0).write_text(
        "".join("z" * 5_000_000 + f" number {number},\n" for number in range(12)) + "last\n"
    )
    top(check)
