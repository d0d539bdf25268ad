"""Tells those who follow events that there are new ones: one look at the database for all of them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool

if TYPE_CHECKING:
    from ugro_py.state import Store

_POLL_S = 0.2
_LINGER_S = 5.0


class Feed:
    """The id of the newest event, looked up while somebody waits for it. Holds no event: readers keep their place."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._newest = 0
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._asked_at = 0.0
        self._closed = False

    async def wait(self, after: int, timeout_s: float) -> bool:
        """Wait until there are events after the one with this id; False if there are none in time."""
        deadline = time.monotonic() + timeout_s
        while self._newest <= after and not self._closed:
            self._asked_at = time.monotonic()
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._look())
            left = min(deadline - time.monotonic(), 1.0)
            if left <= 0:
                return False
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                continue
        return not self._closed

    def close(self) -> None:
        """Let all who wait go on: the server ends."""
        self._closed = True
        self._changed.set()

    async def ended(self) -> None:
        """Wait until nothing of it runs any more; after `close`."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _look(self) -> None:
        while time.monotonic() - self._asked_at < _LINGER_S and not self._closed:
            newest = await run_in_threadpool(self._store.newest_event)
            if newest != self._newest:
                self._newest = newest
                self._changed.set()
                self._changed = asyncio.Event()
            await asyncio.sleep(_POLL_S)
