"""Who is signed in to the dashboard, in the store: sessions outlive the agent that began them."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from sqlalchemy import delete, insert, or_, select, update

from ugro_py.state._base import Part
from ugro_py.state.models_web import web_sessions
from ugro_py.state.rows import WebSessionRow


class WebSessions(Part):
    """Sessions of the dashboard in the store."""

    def keep_web_session(self, row: WebSessionRow, *, idle_since: datetime, most: int) -> list[str]:
        """Add a session, and remove those that are over; return the digests of what was removed.

        Args:
            row: the session.
            idle_since: who was seen last before this has ended.
            most: sessions of one user; the least used of theirs make room.
        """
        table = web_sessions.c
        over = or_(table.ends <= row.seen, table.seen <= idle_since)
        theirs = select(table.digest).where(table.user == row.user).order_by(table.seen.desc(), table.digest)
        with self.database.write() as connection:
            gone = list(connection.scalars(select(table.digest).where(over)))
            connection.execute(delete(web_sessions).where(over))
            surplus = list(connection.scalars(theirs.offset(most - 1)))
            connection.execute(delete(web_sessions).where(table.digest.in_(surplus)))
            connection.execute(insert(web_sessions).values(**asdict(row)))
        return gone + surplus

    def web_session(self, digest: str) -> WebSessionRow | None:
        """Return a session, None if there is none or it was ended."""
        with self.database.read() as connection:
            row = connection.execute(select(web_sessions).where(web_sessions.c.digest == digest)).one_or_none()
        return WebSessionRow(**row._mapping) if row else None

    def use_web_session(self, digest: str, at: datetime) -> None:
        """Note when a session was used."""
        with self.database.write() as connection:
            connection.execute(update(web_sessions).where(web_sessions.c.digest == digest).values(seen=at))

    def end_web_session(self, digest: str) -> None:
        """End a session."""
        with self.database.write() as connection:
            connection.execute(delete(web_sessions).where(web_sessions.c.digest == digest))
