# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""`ugro top` as a person runs it: a process on a real terminal, whose screen is read."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.integration.support import UGRO, wait_until
from tests.terminal import Terminal
from tests.unit.top_world import JOB, World, job_store, world  # noqa: F401 - fixtures


def top(world: World, *options: str, columns: int = 80, rows: int = 24, **env: str) -> Terminal:  # noqa: F811
    command = [UGRO, "-i", world.inventory, "top", *options]
    return Terminal(command, {**os.environ, "COLORTERM": "truecolor", **env}, columns, rows)


def is_restored(terminal: Terminal) -> bool:
    """Say whether the terminal is as it was: its settings, the screen before, the cursor, no reports of the mouse."""
    on, off = terminal.raw.rfind(b"\x1b[?1049h"), terminal.raw.rfind(b"\x1b[?1049l")
    cursor = terminal.raw.rfind(b"\x1b[?25l") < terminal.raw.rfind(b"\x1b[?25h")
    mouse = terminal.raw.rfind(b"\x1b[?1000h") < terminal.raw.rfind(b"\x1b[?1000l")
    return 0 <= on < off and cursor and mouse and terminal.settings == terminal.before


def test_80_by_24(world: World) -> None:  # noqa: F811
    with top(world) as terminal:
        screen = terminal.wait_for(JOB, "└", "step").splitlines()
        assert len(screen) == 24 and max(map(len, screen)) <= 80
        assert "lab  3 nodes" in screen[0]
        columns = next(line for line in screen if "NODE" in line)
        assert columns.split() == ["NODE", "STATE", "GPU", "UTIL", "MEMORY", "°C", "W", "JOB"]
        assert any(re.search(r"gpu-master .* 87%  9.8/24 GB +71  301  " + JOB, line) for line in screen), screen
        assert any(re.search(JOB + r" +running +119/1000 +1.512 +303 ", line) for line in screen), screen
        assert screen[-1].split() == ["l", "Logs", "s", "Stop", "m", "Curve", "/", "Filter", "?", "Keys", "q", "Quit"]
        terminal.press("?")
        terminal.wait_for("no job ends by that")
        terminal.press("\x1b")
        terminal.wait_for("no job ends by that", gone=True)
        terminal.press("q")
        assert terminal.end() == 0
        assert is_restored(terminal)


@pytest.mark.parametrize("how", ["key", signal.SIGTERM, signal.SIGINT])
def test_it_leaves_the_terminal_as_it_was(world: World, how: str | signal.Signals) -> None:  # noqa: F811
    with top(world) as terminal:
        terminal.wait_for(JOB)
        if isinstance(how, signal.Signals):
            terminal.process.send_signal(how)
        else:
            terminal.press("\x03")
        code = terminal.end()
        assert code == (143 if how is signal.SIGTERM else 0)
        assert is_restored(terminal)
    assert world.store.job(JOB).status == "running"


def test_logs_follow_and_end_with_their_screen(world: World) -> None:  # noqa: F811
    world.paths.rank_log(0).write_text("\x1b[2J\x1b[H\x1b]0;owned\x07first [bold]line[/bold]\n")

    def readers() -> list[int]:
        """Return the processes that read the logs for the screen."""
        said = subprocess.run(["ps", "-eww", "-o", "pid,args"], capture_output=True, text=True, check=True).stdout
        of_ours = [line for line in said.splitlines() if f" logs {JOB} " in line and str(world.inventory) in line]
        return [int(line.split()[0]) for line in of_ours]

    with top(world) as terminal:
        terminal.wait_for(JOB, "119/1000")
        terminal.press("l")
        terminal.wait_for("0│first [bold]line[/bold]")
        with world.paths.rank_log(0).open("a") as file:
            file.write("a second one\n")
        terminal.wait_for("0│a second one")
        assert b"owned" not in terminal.raw and readers()
        terminal.press("\x1b")
        terminal.wait_for("119/1000")
        wait_until(lambda: not readers(), "the process that read the logs has ended")
        terminal.press("l")
        terminal.wait_for("a second one")
        terminal.press("\x03")
        assert terminal.end() == 0
    wait_until(lambda: not readers(), "none is left when the screen is left at once")
    with top(world) as terminal:
        terminal.wait_for(JOB, "119/1000")
        terminal.press("l")
        terminal.wait_for("a second one")
        terminal.hang_up()
        wait_until(lambda: terminal.process.poll() is not None, "it ends with its terminal")
    wait_until(lambda: not readers(), "none is left when the terminal is closed")


def test_without_colours(world: World) -> None:  # noqa: F811
    with top(world, NO_COLOR="1") as terminal:
        terminal.wait_for(JOB, "running", "unknown")
        terminal.press("q")
        assert terminal.end() == 0
        shades = set(re.findall(rb"[34]8;2;(\d+);(\d+);(\d+)", terminal.raw))
        assert all(red == green == blue for red, green, blue in shades), "only greys"


def test_light_and_dark(world: World) -> None:  # noqa: F811
    def background(terminal: Terminal) -> int:
        """Return how bright most of the screen is, 0 to 255."""
        terminal.wait_for(JOB, "119/1000")
        cells = [terminal._screen.buffer[row][column].bg for row in range(24) for column in range(80)]
        most = max(set(cells), key=cells.count)
        return int(most[:2], 16)

    with (
        top(world, "--theme", "light") as light,
        top(world, "--theme", "dark") as dark,
        top(world, COLORFGBG="0;15") as told,
    ):
        assert background(light) > 200 > 60 > background(dark)
        assert background(told) > 200
        dark.press("t")
        wait_until(lambda: background(dark) > 200, "the key changes it")


def test_where_no_screen_can_be(world: World) -> None:  # noqa: F811
    with top(world, TERM="dumb") as terminal:
        assert terminal.end() == 2
        assert "cannot move its cursor" in terminal.text.replace("\n", " ")
        assert b"\x1b" not in terminal.raw
    piped = subprocess.run([UGRO, "top"], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)
    assert piped.returncode == 2
    assert piped.stderr.startswith("ugro: a live screen needs a terminal; `ugro top --once`")


def test_over_master(world: World, tmp_path: Path) -> None:  # noqa: F811
    """What goes over SSH runs here, on the terminal that `ssh -t` would make there."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "ssh").write_text('#!/bin/sh\n[ "$1 $2 $3" = "-t -- ob@master" ] && exec sh -c "$4"\nexit 255\n')
    (programs / "ssh").chmod(0o755)
    # A login shell sets its own PATH: the profile of this home is read last.
    (tmp_path / ".profile").write_text(f"PATH={UGRO.parent}:$PATH\n")
    env = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    with Terminal([UGRO, "-i", world.inventory, "--master", "ob@master", "top"], env) as terminal:
        terminal.wait_for(JOB, "119/1000", "└")
        terminal.press("q")
        assert terminal.end() == 0
        assert is_restored(terminal)


def test_what_is_typed_at_once_after_a_slash_is_looked_for(world: World) -> None:  # noqa: F811
    """A paste, or a quick hand on a slow line: each of these letters would be a command."""
    with top(world) as terminal:
        terminal.wait_for(JOB, "119/1000")
        for words in ("slqtmr / waits", "qs?", "ssl"):
            terminal.press(f"/{words}")
            terminal.wait_for(words)
            terminal.wait_for(JOB, gone=True)
            terminal.press("\x1b")
            terminal.wait_for(JOB)
        terminal.press("/waits\rl")  # behind Enter they are commands again, however quick the hand
        terminal.wait_for("waits, logs of")
        terminal.press("/slq\rq")
        terminal.wait_for("pending", "q Quit")
        terminal.press("/\rq")
        assert terminal.end() == 0
