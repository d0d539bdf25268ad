# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Hands for tests of `ugro top`: press keys, wait for what they do, read what is shown."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Input, Static

from tests.unit.top_world import HOSTILE, JOB, STEPS, World, job_store, world  # noqa: F401 - fixtures
from ugro_py.top.app import TopApp
from ugro_py.top.doors import Door, StoreDoor

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
            assert time.monotonic() < deadline, f"waited in vain: {what}\n{self._state()}"
            await self.pilot.pause(0.02)

    def _state(self) -> str:
        """Say what is there, for a test that fails."""
        field = self.app.screen_stack[0].query_one("#filter", Input)
        words = (self.app.focused, field.value, self.rows("nodes"), self.rows("jobs"), self.text("problem"))
        return "\n".join(map(repr, words))

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
