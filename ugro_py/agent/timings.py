"""How long the rounds of the agent's loops take."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator

from ugro_py.api.view import Timing

_RECENT = 100


class Timings:
    """Timings of loops by name; safe for several threads. `worst_s` is of the last hundred rounds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals: dict[str, tuple[int, float]] = {}
        self._recent: dict[str, deque[float]] = {}

    def add(self, name: str, seconds: float) -> None:
        """Note one round."""
        with self._lock:
            count, total = self._totals.get(name, (0, 0.0))
            self._totals[name] = (count + 1, total + seconds)
            self._recent.setdefault(name, deque(maxlen=_RECENT)).append(seconds)

    @contextlib.contextmanager
    def round(self, name: str) -> Iterator[None]:
        """Time what happens inside as one round, also one that raises."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - begin)

    def all(self) -> dict[str, Timing]:
        """Return the timing of each loop."""
        with self._lock:
            return {
                name: Timing(count, total, self._recent[name][-1], max(self._recent[name]))
                for name, (count, total) in self._totals.items()
            }
