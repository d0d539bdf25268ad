# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""`ugro explain` of what happens to nodes: a cable, a supervisor, torchrun."""

from __future__ import annotations

import json

import pytest

from tests.integration.support import PLAY, Ugro, finish, torchruns_on
from tests.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.slow]
TWO = ("--include", "gpu1", "--include", "gpu2")


def test_nodes_and_what_runs_on_them(ugro: Ugro, lab3: Lab) -> None:
    host = lab3.host("gpu2")

    process = ugro.start("launch", "--name", "agent", "--script", PLAY, *TWO, "--", "wait")
    ugro.wait_for_log("agent", "waiting", (0, 1))
    host.kill(torchruns_on(host, ugro.token("agent")))
    finish(process, code=7)
    found = ugro.json("explain", "agent", "--json")
    assert (found["cause"], found["node"]) == ("killed", "gpu2")
    assert "torchrun" in found["title"]

    process = ugro.start("launch", "--name", "super", "--script", PLAY, *TWO, "--", "wait")
    ugro.wait_for_log("super", "waiting", (0, 1))
    events = (ugro.folder("super") / "attempts" / "1" / "gpu2.events.jsonl").read_text().splitlines()
    host.run(["kill", "-9", str(json.loads(events[0])["pid"])])
    finish(process, code=7)
    found = ugro.json("explain", "super", "--json")
    assert (found["cause"], found["node"]) == ("supervisor_killed", "gpu2")

    process = ugro.start("launch", "--name", "cable", "--script", PLAY, *TWO, "--", "wait")
    ugro.wait_for_log("cable", "waiting", (0, 1))
    host.unplug()
    try:
        finish(process, code=7)
        found = ugro.json("explain", "cable", "--json")
    finally:
        host.plug()
    assert (found["cause"], found["node"]) == ("node_lost", "gpu2")
    assert "ugro check gpu2" in found["next_step"]
