"""A database that is away: what counts as that, and how long anybody waits for it within one call."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from ugro_py.errors import StateError

# libpq's own defaults wait for minutes for a server whose host is gone, and for ever for a lock.
_LIBPQ = {
    "connect_timeout": 5, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # ms
    # A client that is frozen must not hold its locks for ever.
    "options": "-c lock_timeout=10s -c statement_timeout=30s -c idle_in_transaction_session_timeout=30s",
}  # fmt: skip
# What SQLite calls an operational error and no waiting mends.
_LASTING = ("no such", "malformed", "not a database", "syntax error", "has no column", "readonly")


class AwayError(StateError):
    """The database does not answer or takes nothing at the moment: it is locked, restarted, or its disk is full."""


class _Hurry(threading.local):
    busy_s: float | None = None


_hurry = _Hurry()


def busy_s(default: float) -> float:
    """Return for how many seconds this thread waits for SQLite's lock."""
    return default if _hurry.busy_s is None else _hurry.busy_s


@contextmanager
def hurry(seconds: float) -> Iterator[None]:
    """Have what this thread asks of SQLite wait for its lock for so long only."""
    before, _hurry.busy_s = _hurry.busy_s, seconds
    try:
        yield
    finally:
        _hurry.busy_s = before


def may_pass(error: SQLAlchemyError, came_back: str) -> bool:
    """Say whether the same may work in a moment."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    passing = isinstance(error, OperationalError | InterfaceError | PoolTimeoutError)
    return passing and not any(words in came_back for words in _LASTING)


def libpq_options(url: URL) -> dict[str, Any]:
    """Return options that bound every wait; what the URL says itself stays."""
    return {name: value for name, value in _LIBPQ.items() if name not in url.query}
