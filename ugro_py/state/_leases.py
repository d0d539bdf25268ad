"""Leases in the store: which process acts for the cluster.

A lease says who holds it, not until when by anybody's clock. Who wants it watches: a lease that was not renewed for as
long as it lasts, by the watcher's own monotonic clock, may be taken, and taking it fails if it was renewed meanwhile.
So clocks of hosts need not agree. `term` grows with every holder.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, text, update

from ugro_py.state._base import Part, now
from ugro_py.state.models import events, leases
from ugro_py.state.rows import Controller

_HELD = "lease_held"
_REMEMBERED = 200
AGENT = "agent"
"""The lease of the process that acts for the whole cluster."""


@dataclass(frozen=True)
class Lease:
    """A lease as it is in the store. `duration_s` is 0 once it was given back; `age_s` is since it was renewed."""

    name: str
    term: int
    holder: Controller
    address: str
    acquired_at: datetime
    renewed_at: datetime
    duration_s: float
    age_s: float

    @property
    def held(self) -> bool:
        """Whether its holder lives; of one on another host, whether it renewed the lease in time."""
        if self.duration_s <= 0:
            return False
        alive = self.holder.is_alive()
        return self.age_s <= self.duration_s if alive is None else alive

    def same_as(self, other: Lease) -> bool:
        """Return whether nobody took or renewed the lease between these two readings."""
        return (self.term, self.renewed_at, self.duration_s) == (other.term, other.renewed_at, other.duration_s)


class Leases(Part):
    """Leases in the store: which process acts for the cluster."""

    def lease(self, name: str = AGENT) -> Lease | None:
        """Return a lease, None if nobody ever held it."""
        with self.database.read() as connection:
            row = connection.execute(select(leases).where(leases.c.name == name)).one_or_none()
            return None if row is None else _lease(row, self._clock(connection))

    def acquire_lease(
        self,
        holder: Controller,
        duration_s: float,
        *,
        name: str = AGENT,
        address: str = "",
        expired: Lease | None = None,
    ) -> Lease | None:
        """Take a lease that nobody holds; None if somebody does.

        Args:
            holder: who takes it.
            duration_s: how long it lasts without being renewed.
            name: which lease.
            address: where the holder can be talked to, for people.
            expired: the lease as it was read, of whose holder the caller knows that it is dead, or that it did not
                renew for `duration_s`. If it was renewed or taken since, nothing happens.
        """
        with self.database.write() as connection:
            if not self.database.sqlite:  # of two first holders one waits here; SQLite's write lock does the same
                connection.execute(text("LOCK TABLE leases IN SHARE ROW EXCLUSIVE MODE"))
            row = connection.execute(select(leases).where(leases.c.name == name)).one_or_none()
            at = self._clock(connection)
            old = None if row is None else _lease(row, at)
            if old and old.duration_s > 0 and not (expired and expired.same_as(old)):
                return None
            values = {
                "term": old.term + 1 if old else 1, "host": holder.host, "boot_id": holder.boot_id, "pid": holder.pid,
                "start_ticks": holder.start_ticks, "address": address, "acquired_at": at, "renewed_at": at,
                "duration_s": duration_s,
            }  # fmt: skip
            if old is None:
                connection.execute(insert(leases).values(name=name, **values))
            else:
                connection.execute(update(leases).where(leases.c.name == name).values(**values))
            text_ = f"{name}: held by {_who(holder)}, term {values['term']}"
            self._event(connection, _HELD, text_, data={"lease": name, "holder": _identity(holder)})
            return _lease(connection.execute(select(leases).where(leases.c.name == name)).one(), at)

    def renew_lease(self, lease: Lease) -> bool:
        """Renew a lease for another `duration_s`; False if somebody else has it now, or it was given back."""
        with self.database.write() as connection:
            result = connection.execute(
                update(leases)
                .where(leases.c.name == lease.name, leases.c.term == lease.term, leases.c.duration_s > 0)
                .values(renewed_at=self._clock(connection))
            )
            return result.rowcount == 1

    def former_holders(self, name: str = AGENT) -> set[Controller]:
        """Return who held the lease before its present holder: none of them may act any more, wherever it is."""
        query = select(events.c.data).where(events.c.kind == _HELD).order_by(events.c.id.desc()).limit(_REMEMBERED)
        with self.database.read() as connection:
            told = [data for data in connection.scalars(query) if data and data.get("lease") == name]
        holders = [Controller(**data["holder"]) for data in told]
        return {holder for holder in holders[1:] if holder != holders[0]}

    def give_back_lease(self, lease: Lease) -> None:
        """End a lease so that another can take it at once; nothing happens if somebody else has it."""
        with self.database.write() as connection:
            done = connection.execute(
                update(leases)
                .where(leases.c.name == lease.name, leases.c.term == lease.term, leases.c.duration_s > 0)
                .values(duration_s=0.0)
            )
            if done.rowcount:
                self._event(connection, "lease_given_back", f"{lease.name}: given back by {_who(lease.holder)}")

    def _clock(self, connection: Connection) -> datetime:
        """Return the database's time: of one server for all hosts, or this host's where the database is a file."""
        if self.database.sqlite:
            return now()
        at: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        return at


def _identity(holder: Controller) -> dict[str, Any]:
    return {name: getattr(holder, name) for name in ("host", "boot_id", "pid", "start_ticks")}


def _who(holder: Controller) -> str:
    return f"process {holder.pid} on {holder.host}"


def _lease(row: Row[Any], at: datetime) -> Lease:
    return Lease(
        name=row.name,
        term=row.term,
        holder=Controller(row.host, row.boot_id, row.pid, row.start_ticks),
        address=row.address,
        acquired_at=row.acquired_at,
        renewed_at=row.renewed_at,
        duration_s=row.duration_s,
        age_s=(at - row.renewed_at).total_seconds(),
    )
