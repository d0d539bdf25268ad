"""Since when a database is away, for all in this process who wait for it: one outage is told of once."""

from __future__ import annotations

import threading
import time


class Outage:
    """Who waits for the database, and since when it is away. May be used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: set[object] = set()
        self._since: float | None = None
        self._why = ""

    @property
    def away_s(self) -> float:
        """Seconds for which it has been away; 0 where it is not."""
        with self._lock:
            return 0.0 if self._since is None else time.monotonic() - self._since

    @property
    def why(self) -> str:
        """What came back when it was asked last."""
        return self._why

    def failed(self, who: object, since: float, why: str) -> bool:
        """Note that a call which began at `since` (monotonic) got no answer; return whether that is news."""
        with self._lock:
            news = self._since is None
            self._since = since if self._since is None else min(self._since, since)
            self._waiting.add(who)
            self._why = why or self._why
            return news

    def worked(self, who: object) -> float | None:
        """Note that a call was answered; return how long the database was away if that ends an outage.

        Others that still wait were refused something else: a locked SQLite file can be read all the time.
        """
        with self._lock:
            self._waiting.discard(who)
            if self._since is None or self._waiting:
                return None
            seconds = time.monotonic() - self._since
            self._since = None
            return seconds

    def gave_up(self, who: object) -> None:
        """Note that a call is not tried again; the outage lasts until another is answered."""
        with self._lock:
            self._waiting.discard(who)
