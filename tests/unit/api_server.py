# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A real server of the API in this process, with what it needs of an agent."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from ugro_py.api.app import create_app
from ugro_py.api.server import Listen, serve
from ugro_py.api.view import Timing
from ugro_py.cluster import Cluster, Node
from ugro_py.state import Store


class FakeAgent:
    """What the API needs of an agent, with a real store."""

    watches = True

    def __init__(self, folder: Path) -> None:
        self.store = Store.open(f"sqlite:///{folder}/ugro.db")
        self.cluster = Cluster("test", (Node("here", "127.0.0.1", "master", "local"),), folder / "hosts.yml")
        self.woken = 0
        self.reports: dict[str, dict[str, Any]] = {}

    def timings(self) -> dict[str, Timing]:
        return {"schedule": Timing(2, 0.5, 0.25, 0.4)}

    def readings(self) -> dict[str, dict[str, Any]]:
        return self.reports

    def wake(self) -> None:
        self.woken += 1


class Served:
    """A server in a thread of its own."""

    def __init__(self, folder: Path, listen: Listen | None = None, dashboard: int = 0, name: str = "agent") -> None:
        self.agent = FakeAgent(folder)
        self.dashboard = dashboard
        self.app: FastAPI
        self.path = folder / f"{name}.sock"
        self._loop = asyncio.new_event_loop()
        self._stop: asyncio.Event
        self.error: BaseException | None = None
        up = threading.Event()

        async def run() -> None:
            self._stop = asyncio.Event()
            ready = asyncio.Event()
            app = self.app = create_app(self.agent)
            serving = serve(app, self.path, stop=self._stop, listen=listen, ready=ready, dashboard=dashboard)
            task = asyncio.create_task(serving)
            waiting = asyncio.create_task(ready.wait())
            await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
            up.set()
            await task

        def work() -> None:
            try:
                self._loop.run_until_complete(run())
            except BaseException as error:
                self.error = error
                up.set()

        self._thread = threading.Thread(target=work)
        self._thread.start()
        assert up.wait(60)

    def close(self) -> None:
        if self._loop.is_closed():
            return
        if self.error is None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)
        assert not self._thread.is_alive()
        self.agent.store.close()
        left = asyncio.all_tasks(self._loop)
        self._loop.close()
        assert not left, left  # else Python complains of tasks that were destroyed


Serve = Callable[..., Served]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    monkeypatch.setenv("UGRO_DATA", str(tmp_path))
    monkeypatch.delenv("UGRO_AGENT", raising=False)
    made: list[Served] = []

    def make(listen: Listen | None = None, dashboard: int = 0, name: str = "agent") -> Served:
        made.append(Served(tmp_path, listen, dashboard, name))
        return made[-1]

    yield make
    for served in made:
        served.close()
