"""Up to which event everything is there that will ever be: PostgreSQL shows ids out of order where writers overlap.

A writer gets its event's id, and commits later; one that came after it may have committed by then. Whoever reads on
from the newest id would never see the first. So readers go only up to an id below which nobody is on the way.
"""

from __future__ import annotations

import time

from sqlalchemy import text

from ugro_py.state.database import Database

PATIENCE_S = 2.0
"""So long a writer is waited for. UGRO's take milliseconds; one that hangs must not keep all news from everybody."""
_LOOK_S = 0.01
_ON_THE_WAY = "SELECT txid_snapshot_xip(txid_current_snapshot())"
# One statement, one snapshot: who is on the way at the moment at which this is the newest event.
_NEWEST = "SELECT (SELECT coalesce(max(id), 0) FROM events), ARRAY(" + _ON_THE_WAY + ")"  # noqa: S608


class Settled:
    """Finds the newest event below which none is missing; may be used from several threads."""

    def __init__(self) -> None:
        self._let_be: frozenset[int] = frozenset()  # transactions that were waited for in vain

    def newest(self, database: Database) -> int:
        """Return the id of the newest event, 0 if there is none; waits while one with a lower id is on the way."""
        with database.read() as connection:
            if database.sqlite:  # one writer at a time
                return int(connection.scalar(text("SELECT coalesce(max(id), 0) FROM events")))
            newest, found = connection.execute(text(_NEWEST)).one()
            before = set(found) - self._let_be
            deadline = time.monotonic() + PATIENCE_S
            while before:
                if time.monotonic() > deadline:
                    self._let_be = frozenset(before)
                    break
                time.sleep(_LOOK_S)
                before &= set(connection.scalars(text(_ON_THE_WAY)))
            return int(newest)
