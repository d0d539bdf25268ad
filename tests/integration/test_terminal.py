# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What a person at a terminal sees of a job that really runs: the live view of `ugro launch`, and `ugro top`."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.integration.support import PLAY, UGRO, Ugro, wait_until
from tests.terminal import Terminal


def at_terminal(ugro: Ugro, *arguments: object, columns: int = 100, rows: int = 40) -> Terminal:
    """Start `ugro ARGUMENTS` on a terminal."""
    return Terminal([UGRO, "-i", str(ugro.inventory), *map(str, arguments)], ugro.env, columns, rows)


def wait_for_rows(terminal: Terminal, pattern: str, count: int = 1) -> None:
    """Wait until the screen has so many places that match: the numbers of a row come after its words."""
    wait_until(lambda: len(re.findall(pattern, terminal.wait_for())) == count, f"{count} times {pattern}")


def test_top_shows_a_job_and_stops_it(ugro_here: Ugro) -> None:
    ugro_here.run("launch", "--name", "steps", "--script", PLAY, "--detach", "--", "steps", 100_000, 0.05)
    ugro_here.wait_for_log("steps", "step 3 ", [0, 1, 2])
    with at_terminal(ugro_here, "top", rows=24, columns=80) as terminal:
        terminal.wait_for("steps", "running", "3 of 3 CPU slots", "└")
        terminal.wait_for("loss")
        wait_for_rows(terminal, r"gpu\S* +\w+ +0 .*%.* steps", 3)  # what each node measured
        terminal.press("l")
        terminal.wait_for("0│step", "2│step", "loss=")
        terminal.press("\x1b")
        terminal.wait_for("CPU slots")
        terminal.press("s")
        terminal.wait_for("Stop steps, a job of ")
        terminal.press("n")
        terminal.wait_for("Stop steps, a job of ", gone=True)
        assert ugro_here.job("steps").status == "running"
        terminal.press("s")
        terminal.wait_for("Stop steps, a job of ")
        terminal.press("y")
        terminal.wait_for("job steps stopped", timeout_s=120)
        terminal.wait_for("0 of 3 CPU slots", "0 running")
        terminal.press("q")
        assert terminal.end() == 0
    assert ugro_here.job("steps").status == "stopped"
    assert ugro_here.busy() == {}
    assert ugro_here.leftovers(ugro_here.token("steps")) == {}


def test_the_live_view_of_a_launch(ugro_here: Ugro) -> None:
    words = ("launch", "--name", "shown", "--script", PLAY, "--", "steps", 100_000, 0.05)
    with at_terminal(ugro_here, *words) as terminal:
        terminal.wait_for("(Ctrl-C detaches)", "gpu-master", "tokens/s", "└", timeout_s=120)
        wait_for_rows(terminal, r"│ +0 │ gpu-master +│ running +│ +\d+ │ +[01]\.?\d* │")
        wait_for_rows(terminal, r"│ +2 │ gpu2 +│ running +│")
        terminal.press("\x03")
        assert terminal.end(timeout_s=60) == 0
        assert terminal.settings == terminal.before
    assert ugro_here.job("shown").status == "running"
    ugro_here.run("stop", "shown", "--force")


def test_without_textual_a_launch_needs_nothing_of_it() -> None:
    code = "import sys, ugro_py.live, ugro_py.launch_cli, ugro_py.top.widgets; sys.exit('textual' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
