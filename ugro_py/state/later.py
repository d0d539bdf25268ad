"""Writes to the store that nobody waits for: in order, each once, as soon as the database takes them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import deque
from collections.abc import Callable
from typing import ParamSpec

from ugro_py.state.store import Store

P = ParamSpec("P")


class Later:
    """Takes writes at once, keeps them while the database is away, and makes them in the order they came.

    Args:
        store: the state store.
        on_error: called when a write failed for good; `error` says why then, and nothing is written any more.
    """

    def __init__(self, store: Store, on_error: Callable[[], None]) -> None:
        self.error: Exception | None = None
        self._store = store
        self._on_error = on_error
        self._due: deque[tuple[Callable[[], object], bool]] = deque()
        self._task: asyncio.Task[None] | None = None

    def write(self, call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Have a method of the store called, in a thread."""
        self._add(functools.partial(call, *args, **kwargs), True)

    def then(self, call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Have something called in the loop once all writes before it have been made."""
        self._add(functools.partial(call, *args, **kwargs), False)

    def _add(self, call: Callable[[], object], is_write: bool) -> None:
        self._due.append((call, is_write))
        if self._task is None and self.error is None:
            self._task = asyncio.create_task(self._work())

    async def _work(self) -> None:
        try:
            while self._due:
                call, is_write = self._due[0]
                if is_write:
                    await self._store.patiently(call)
                else:
                    call()
                self._due.popleft()
        except Exception as error:  # noqa: BLE001  whoever follows the job raises it
            self.error = error
            self._on_error()
        finally:
            self._task = None

    async def flush(self) -> None:
        """Return when all is written.

        Raises:
            StateError: it cannot be.
        """
        while self._task is not None:
            await asyncio.wait({self._task})
        if self.error is not None:
            raise self.error

    async def close(self, patience_s: float = 1.0) -> None:
        """Write what can be written within `patience_s`; the copies of the events have the rest."""
        task = self._task
        if task is not None:
            await asyncio.wait({task}, timeout=patience_s)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
