# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""One watch of a job for all its pages: what it cannot see is told, once in the log, and it looks again later."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import asyncio
import itertools
import logging
import time
from pathlib import Path

import pytest

from tests.unit.api_server import Serve, start  # noqa: F401 - a fixture
from tests.unit.test_web_stream import Stream
from tests.unit.web_jobs import Job
from ugro_py import status
from ugro_py.paths import JobPaths
from ugro_py.web import following
from ugro_py.web.following import Watch


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds takes milliseconds."""
    for name in ("FILES_S", "_STATE_S"):
        monkeypatch.setattr(following, name, 0.01)
    monkeypatch.setattr(following, "_BACK_OFF_S", 0.2)


def test_a_fault_is_in_the_log_once_and_is_tried_less_often(
    quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("UGRO_DATA", str(tmp_path))
    calls = iter([ZeroDivisionError("one"), ZeroDivisionError("two"), KeyError("three"), ZeroDivisionError("four")])

    def broken() -> tuple[bool, dict[str, str]]:
        fault = next(calls, None)
        if fault is not None:
            raise fault
        return False, {"facts": "fine"}

    async def run() -> None:
        watch, known = Watch("first", broken, asyncio.Event()), None
        watch.begin()
        while not watch.trouble:
            known = await watch.changed(known, 0.05)
        assert watch.trouble == "Not live: an error inside the agent; see its log"
        while watch.trouble:
            known = await watch.changed(known, 0.05)
        assert next(calls, None) is None  # only when it had been tried to the end
        while known is None or not known.parts:
            known = await watch.changed(known, 0.05)
        await watch.end()
        assert watch.idle

    with caplog.at_level(logging.ERROR, "ugro.web"):
        asyncio.run(run())
    assert [record.exc_info and record.exc_info[0] for record in caplog.records] == [ZeroDivisionError, KeyError]


def test_what_stays_broken_is_looked_at_less_and_less(
    quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UGRO_DATA", str(tmp_path))
    looked: list[float] = []

    def unreadable(_: object) -> list[int]:
        looked.append(time.monotonic())
        raise PermissionError("no")

    monkeypatch.setattr(JobPaths, "logged_ranks", unreadable)  # not the parts: the files themselves

    async def run() -> None:
        watch = Watch("first", lambda: (False, {}), asyncio.Event())
        while len(looked) < 7:
            await watch.changed(None, 0.05)
        assert watch.trouble.startswith("Not live: an error inside")
        await watch.end()

    asyncio.run(run())
    pauses = [after - before for before, after in itertools.pairwise(looked)]
    for pause, least in zip(pauses, (0.02, 0.04, 0.08, 0.16, 0.2, 0.2), strict=True):
        assert pause >= least


def test_pages_say_that_they_are_not_live_and_go_on_with_the_logs(
    start: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = start()
    job = Job(served)
    job.start()
    job.log(b"one\n")
    stream = Stream(served, "/experiments/first/live?rank=0")
    stream.next("part")
    with monkeypatch.context() as patch:

        def broken(*_: object) -> object:
            raise RuntimeError("a fault of ours")

        patch.setattr(status, "status_of", broken)
        _, _, text = stream.next("trouble")
        assert text == "Not live: an error inside the agent; see its log"
        job.log(b"two\n")
        _, _, data = stream.next("log")
        assert data["lines"][-1]["text"] == "two"
    _, _, text = stream.next("trouble")
    assert text == ""
    stream.close()
