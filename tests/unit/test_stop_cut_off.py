# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A connection that breaks while its node stops a gang: the node does as told, and is asked again how it went."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.unit.here import JOB, Here, here, until  # noqa: F401 - a fixture
from ugro_py.transport import Session

SAVES = """
import os, signal, sys, time

def save(number, frame):
    print("saving", flush=True)
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.05)
    print("saved", flush=True)
    sys.exit(0)

signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
time.sleep(600)
"""


def test_the_node_is_not_given_up(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    real, stops, cuts = Session.call, [], []
    here.settings(grace_s=120.0)  # however slow this machine is: its ranks may take until the node is asked again
    go, log = here.folder / "go", here.on_node("b") / "logs" / "rank_1.log"

    async def cut(session: Session) -> None:
        await until(lambda: "saving" in log.read_text(), "the node does as told")
        session._process.kill()

    async def call(self: Session, method: str, **params: Any) -> Any:
        if method == "stop" and self.node.name == "b":
            stops.append(self)
            if len(stops) == 1:
                cuts.append(asyncio.create_task(cut(self)))
            else:
                go.touch()  # its ranks end once it is asked again
        return await real(self, method, **params)

    monkeypatch.setattr(Session, "call", call)

    async def play() -> Any:
        await here.submit(SAVES, str(go))
        work = asyncio.create_task(here.run())
        logs = [here.on_node(name) / "logs" / f"rank_{rank}.log" for rank, name in enumerate("ab")]
        await until(lambda: all(log.exists() and log.read_text() for log in logs), "both ranks are ready")
        await until(lambda: here.store.job(JOB).status == "running", "the job runs")
        here.store.request_stop(JOB)
        return await work

    outcome = asyncio.run(play())
    assert (outcome.status, here.store.job(JOB).status) == ("stopped", "stopped")
    assert stops[0] is not stops[1]
    assert here.events("node_lost") == []
    assert here.paths.rank_log(1).read_text() == "ready\nsaving\nsaved\n"
    assert not here.on_node("b").exists()  # collected
    assert here.store.busy() == {}
