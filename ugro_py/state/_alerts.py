"""Events to read on from, and the alerts made of them: what was told, and when it was over."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, Select, delete, func, insert, or_, select, update

from ugro_py.state._base import Part, now
from ugro_py.state.models import ENDED, alerts, audit, cursors, events, jobs
from ugro_py.state.rows import AlertRow, EventRow
from ugro_py.state.settled import Settled

SEVERITIES = ("info", "warning", "error")
# Others read these to know who may act, and which drains a person has overruled.
_IDENTITY = "database"
_KEPT = (_IDENTITY, "lease_held", "lease_given_back", "node_drain", "node_resume")
ALERTER = "alerter"
"""The cursor of the alerts."""


@dataclass(frozen=True)
class Change:
    """What an event means for the alerts.

    Attributes:
        key: names the condition, the same for all that is told of it; with `begins` False it may end in `*`.
        begins: whether it begins (or is told of again), or is over.
        lasting: whether it goes on until an event says otherwise; else it is over as soon as it was told.
    """

    key: str
    begins: bool
    at: datetime
    rule: str = ""
    severity: str = "info"
    text: str = ""
    job: str | None = None
    node: str | None = None
    lasting: bool = True


@dataclass(frozen=True)
class AskedRow:
    """Who asked for something, and what came of it."""

    at: datetime
    user: str
    verb: str
    outcome: str


class Alerts(Part):
    """Events to read on from, and the alerts made of them."""

    _settled: Settled

    # -- events -----------------------------------------------------------------------------------------------

    def newest_event(self) -> int:
        """Return the id of the newest event, 0 if there is none; none with a lower id comes after it."""
        return self._settled.newest(self.database)

    def events_after(self, event_id: int, limit: int = 1000, **wanted: Any) -> list[EventRow]:
        """Return at most `limit` events that came after the one with this id, in order; none will come in between.

        Args:
            event_id: 0 for all there are.
            limit: how many at most.
            wanted: as of `find_events`.
        """
        newest = self._settled.newest(self.database)
        with self.database.read() as connection:
            here = events.c.id.between(event_id + 1, newest)
            query = self._wanted(connection, **wanted).where(here).order_by(events.c.id)
            return [_event_row(row) for row in connection.execute(query.limit(limit))]

    def identity(self) -> str:
        """Return what tells this database, and copies of it, from every other one: made when it is first asked for."""
        query = select(events.c.data).where(events.c.kind == _IDENTITY).order_by(events.c.id).limit(1)
        with self.database.read() as connection:
            known = connection.scalar(query)
        if known is None:
            with self.database.write() as connection:
                self._event(connection, _IDENTITY, "a database of its own", data={"id": uuid4().hex})
            with self.database.read() as connection:  # of two that made one the first counts
                known = connection.scalar(query)
        return str((known or {})["id"])

    def find_events(self, limit: int = 100, **wanted: Any) -> list[EventRow]:
        """Return the newest `limit` events that fit, oldest first.

        Args:
            limit: how many at most.
            wanted: `job`, `node` (names), `severity` (this one and worse), `since`, `until` (times), `kinds`.

        Raises:
            NotFoundError: there is no such job.
        """
        with self.database.read() as connection:
            query = self._wanted(connection, **wanted).order_by(events.c.id.desc()).limit(limit)
            return [_event_row(row) for row in reversed(connection.execute(query).all())]

    def _wanted(
        self,
        connection: Connection,
        job: str | None = None,
        node: str | None = None,
        severity: str = "info",
        since: datetime | None = None,
        until: datetime | None = None,
        kinds: Collection[str] = (),
    ) -> Select[Any]:
        query = select(events, jobs.c.name.label("job")).join(jobs, jobs.c.id == events.c.job_id, isouter=True)
        if job is not None:
            query = query.where(events.c.job_id == self._job_id(connection, job))
        if node is not None:
            query = query.where(events.c.node == node)
        if severity != "info":
            query = query.where(events.c.severity.in_(SEVERITIES[SEVERITIES.index(severity) :]))
        if since is not None:
            query = query.where(events.c.at >= since)
        if until is not None:
            query = query.where(events.c.at <= until)
        if kinds:
            query = query.where(events.c.kind.in_(list(kinds)))
        return query

    def forget_events(self, before: datetime) -> int:
        """Remove what happened before a time, and the alerts that were over by then; returns how many events went.

        Events of jobs that have not ended stay, whatever their age, and so do those the alerts have not dealt with, and
        the few that say who holds the lease and which nodes are drained.
        """
        active = select(jobs.c.id).where(jobs.c.status.not_in(ENDED))
        with self.database.write() as connection:
            reached = connection.scalar(select(cursors.c.event_id).where(cursors.c.name == ALERTER))
            old = (events.c.at < before) & or_(events.c.job_id.is_(None), events.c.job_id.not_in(active))
            old &= events.c.kind.not_in(_KEPT)
            if reached is not None:
                old &= events.c.id <= reached
            connection.execute(delete(alerts).where(alerts.c.resolved_at < before))
            return connection.execute(delete(events).where(old)).rowcount

    def asked(self, target: str, limit: int = 50) -> list[AskedRow]:
        """Return who asked for something about a job or node, oldest first (the audit trail)."""
        query = select(audit).where(audit.c.target == target).order_by(audit.c.id.desc()).limit(limit)
        with self.database.read() as connection:
            rows = connection.execute(query).all()
        return [AskedRow(row.at, row.user, row.verb, row.outcome) for row in reversed(rows)]

    # -- alerts -----------------------------------------------------------------------------------------------

    def alert_cursor(self) -> int | None:
        """Return the id of the last event that the alerts have dealt with; None: they never ran."""
        with self.database.read() as connection:
            found: int | None = connection.scalar(select(cursors.c.event_id).where(cursors.c.name == ALERTER))
            return found

    def note_alerts(self, changes: Sequence[Change], event_id: int) -> None:
        """Record what events mean, together with how far they were read: both or neither."""
        with self.database.write() as connection:
            for change in changes:
                if change.begins:
                    _begin(connection, change)
                else:
                    _end(connection, change)
            old = connection.execute(
                update(cursors).where(cursors.c.name == ALERTER).values(event_id=event_id)
            ).rowcount
            if not old:
                connection.execute(insert(cursors).values(name=ALERTER, event_id=event_id))

    def alerts(self, *, unfinished: bool = False, limit: int = 1000) -> list[AlertRow]:
        """Return alerts, newest first; `unfinished` keeps those that last, or whose end was not told yet."""
        query = select(alerts).order_by(alerts.c.id.desc()).limit(limit)
        if unfinished:
            query = query.where(alerts.c.resolved_at.is_(None) | (alerts.c.notified_at < alerts.c.resolved_at))
        with self.database.read() as connection:
            return [AlertRow(**row._mapping) for row in connection.execute(query)]

    def times_begun(self, key: str, since: datetime) -> int:
        """Return how often a condition has begun since a time, the present one included."""
        query = select(func.count()).where(alerts.c.key == key, alerts.c.first_at >= since)
        with self.database.read() as connection:
            return connection.scalar(query) or 0

    def told_of(self, alert: int, at: datetime, *, over: bool = False) -> None:
        """Record that people were told of an alert at a time; `over`: it was of the moment, and is done with."""
        values: dict[str, Any] = {"notified_at": at}
        if over:
            values["resolved_at"] = at
        with self.database.write() as connection:
            connection.execute(update(alerts).where(alerts.c.id == alert).values(**values))


def _begin(connection: Connection, change: Change) -> None:
    now_told = {"severity": change.severity, "text": change.text, "last_at": change.at}
    here = (alerts.c.key == change.key) & alerts.c.resolved_at.is_(None)
    if connection.execute(update(alerts).where(here).values(count=alerts.c.count + 1, **now_told)).rowcount:
        return
    connection.execute(
        insert(alerts).values(
            key=change.key, rule=change.rule, job=change.job, node=change.node, first_at=change.at, **now_told
        )
    )


def _end(connection: Connection, change: Change) -> None:
    if change.key.endswith("*"):
        this = alerts.c.key.startswith(change.key[:-1], autoescape=True)
    else:
        this = alerts.c.key == change.key
    here = update(alerts).where(this, alerts.c.resolved_at.is_(None))
    # The end comes after the notice of it in any case, or it would seem to have been told already.
    connection.execute(here.where(alerts.c.notified_at >= change.at).values(resolved_at=now()))
    connection.execute(here.values(resolved_at=change.at))


def _event_row(row: Row[Any]) -> EventRow:
    return EventRow(row.at, row.kind, row.severity, row.text, row.job, row.node, row.rank, row.data, row.id)
