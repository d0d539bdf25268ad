"""Group commit: what several threads ask for at the same moment is done once, for all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

A = TypeVar("A")
R = TypeVar("R")


class _Entry(Generic[A, R]):
    __slots__ = ("done", "error", "found", "item")

    def __init__(self, item: A) -> None:
        self.item = item
        self.done = False
        self.found: R | None = None
        self.error: BaseException | None = None


class Together(Generic[A, R]):
    """Call it with one item from any thread; `do` gets all that wait by then, and is never called twice at once.

    Who comes while `do` works waits, with all the others that come meanwhile, for the next call: so a transaction that
    waits for the disk is shared, and nobody who comes alone waits for company.

    Args:
        do: takes items and returns what came of each, in order. What it raises is raised for each of them.
    """

    def __init__(self, do: Callable[[Sequence[A]], Sequence[R]]) -> None:
        self._do = do
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._waiting: list[_Entry[A, R]] = []

    def __call__(self, item: A) -> R:
        """Do it, and return what came of it."""
        mine: _Entry[A, R] = _Entry(item)
        with self._lock:
            self._waiting.append(mine)
        with self._turn:
            if not mine.done:
                with self._lock:
                    entries, self._waiting = self._waiting, []
                self._work(entries)
        if mine.error is not None:
            raise mine.error
        return mine.found  # type: ignore[return-value]  # what `do` gave, which may be None

    def _work(self, entries: list[_Entry[A, R]]) -> None:
        try:
            for entry, found in zip(entries, self._do([entry.item for entry in entries]), strict=True):
                entry.found = found
        except BaseException as error:
            for entry in entries:
                entry.error = error
            raise
        finally:
            for entry in entries:
                entry.done = True
