"""Users and groups in the store: roles, quotas, usage, and the audit trail."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, delete, func, insert, or_, select, update

from ugro_py.errors import UsageError
from ugro_py.state._base import Part, check_values, now
from ugro_py.state.models import accounts, allocations, attempts, audit, jobs

KINDS = ("user", "group")
ROLES = ("admin", "user")
_LIMITS = ("max_gpus", "max_queued", "gpu_hours_week", "max_priority")
_VALUES = frozenset(["role", *_LIMITS])
_TOGETHER = timedelta(minutes=1)  # refused requests of one kind within it are one row


@dataclass(frozen=True)
class AccountRow:
    """Role and quotas of a user or a group (`kind`); a quota that is None has no limit.

    `max_gpus` is GPUs at once, `max_queued` jobs that have not ended, `gpu_hours_week` GPU hours in any 7 days.
    `max_priority` is the highest priority they may ask for; None for that of the inventory.
    """

    kind: str
    name: str
    role: str = "user"
    max_gpus: int | None = None
    max_queued: int | None = None
    gpu_hours_week: float | None = None
    max_priority: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class UsageRow:
    """What one job used of the GPUs in a span of time; `gpus` is how many it holds now."""

    job: str
    user: str
    group: str | None
    gpu_hours: float
    gpus: int


@dataclass(frozen=True)
class AuditRow:
    """Who asked for what, and what came of it (`done`, `refused: …`, `failed: …`); `count`: so often, see `record`."""

    at: datetime
    user: str
    uid: int | None
    verb: str
    target: str
    outcome: str
    data: Mapping[str, Any] | None
    count: int = 1


class Accounts(Part):
    """Users and groups in the store: roles, quotas, usage, and the audit trail."""

    def accounts(self) -> list[AccountRow]:
        """Return every user and group that has a role or quotas, groups first, by name."""
        with self.database.read() as connection:
            rows = connection.execute(select(accounts).order_by(accounts.c.kind, accounts.c.name)).all()
        return [AccountRow(**row._mapping) for row in rows]

    def account(self, kind: str, name: str) -> AccountRow:
        """Return the role and quotas of a user or a group; the defaults where nothing was set."""
        with self.database.read() as connection:
            query = select(accounts).where(accounts.c.kind == kind, accounts.c.name == name)
            row = connection.execute(query).one_or_none()
        return AccountRow(**row._mapping) if row else AccountRow(kind, name)

    def roles(self, user: str, groups: Iterable[str]) -> set[str]:
        """Return the roles that a user has, by their own name or a group's."""
        own = and_(accounts.c.kind == "user", accounts.c.name == user)
        theirs = and_(accounts.c.kind == "group", accounts.c.name.in_(list(groups)))
        with self.database.read() as connection:
            return set(connection.scalars(select(accounts.c.role).where(or_(own, theirs))))

    def set_account(self, kind: str, name: str, **values: Any) -> AccountRow:
        """Set role (admin, user) and quotas (max_gpus, max_queued, gpu_hours_week, max_priority; None: no limit).

        Raises:
            UsageError: a value cannot be used.
            ValueError: a name is none of these.
        """
        check_values(values, _VALUES)
        _check(kind, name, values)
        with self.database.write() as connection:
            here = and_(accounts.c.kind == kind, accounts.c.name == name)
            if connection.execute(select(accounts.c.name).where(here).with_for_update()).one_or_none() is None:
                connection.execute(insert(accounts).values(kind=kind, name=name, **values))
            else:
                connection.execute(update(accounts).where(here).values(**values))
            return AccountRow(**connection.execute(select(accounts).where(here)).one()._mapping)

    def usage(self, since: datetime, until: datetime | None = None) -> list[UsageRow]:
        """Return the GPU hours of each job between two times, largest first."""
        end = until or now()
        query = (
            select(jobs.c.name, jobs.c.user, jobs.c.unix_group, allocations.c.allocated_at, allocations.c.released_at)
            .join(attempts, attempts.c.id == allocations.c.attempt_id)
            .join(jobs, jobs.c.id == attempts.c.job_id)
            .where(allocations.c.allocated_at < end)
            .where(or_(allocations.c.released_at.is_(None), allocations.c.released_at > since))
        )
        hours: dict[str, float] = {}
        held: dict[str, int] = {}
        of: dict[str, tuple[str, str | None]] = {}
        with self.database.read() as connection:
            for row in connection.execute(query):
                seconds = (min(row.released_at or end, end) - max(row.allocated_at, since)).total_seconds()
                hours[row.name] = hours.get(row.name, 0.0) + max(0.0, seconds) / 3600
                held[row.name] = held.get(row.name, 0) + (row.released_at is None)
                of[row.name] = (row.user, row.unix_group)
        rows = [UsageRow(job, *of[job], gpu_hours=hours[job], gpus=held[job]) for job in hours]
        return sorted(rows, key=lambda row: (-row.gpu_hours, row.job))

    def job_counts(self) -> dict[str, int]:
        """Return how many jobs there are of each status."""
        with self.database.read() as connection:
            rows = connection.execute(select(jobs.c.status, func.count()).group_by(jobs.c.status)).all()
        return {row[0]: row[1] for row in rows}

    def record(
        self,
        user: str,
        uid: int | None,
        verb: str,
        target: str,
        outcome: str,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a line to the audit trail.

        What was not done is counted in the line of the first of its kind within a minute (same user, verb and word for
        the outcome, whatever the target): who asks without end must not fill the disk.
        """
        at = now()
        values = {
            "at": at, "user": user, "uid": uid, "verb": verb[:40], "target": target[:200], "outcome": outcome[:500],
            "data": dict(data) if data is not None else None,
        }  # fmt: skip
        word = outcome.partition(":")[0]
        with self.database.write() as connection:
            if word in ("refused", "failed"):
                same = (
                    select(audit.c.id)
                    .where(audit.c.at > at - _TOGETHER, audit.c.user == user, audit.c.verb == verb[:40])
                    .where(audit.c.outcome.startswith(word[:500], autoescape=True))
                    .order_by(audit.c.id.desc())
                    .limit(1)
                )
                counted = update(audit).where(audit.c.id == same.scalar_subquery()).values(count=audit.c.count + 1)
                if connection.execute(counted).rowcount:
                    return
            connection.execute(insert(audit).values(**values))

    def forget_audit(self, days: float) -> int:
        """Remove lines of the audit trail that are older than so many days; return how many."""
        with self.database.write() as connection:
            return connection.execute(delete(audit).where(audit.c.at < now() - timedelta(days=days))).rowcount

    def audit(self, limit: int = 100, user: str | None = None) -> list[AuditRow]:
        """Return the newest `limit` lines of the audit trail, oldest first; with `user` only theirs."""
        query = select(audit).order_by(audit.c.id.desc()).limit(limit)
        if user is not None:
            query = query.where(audit.c.user == user)
        with self.database.read() as connection:
            rows = connection.execute(query).all()
        # "count" is a method of rows.
        return [
            AuditRow(r.at, r.user, r.uid, r.verb, r.target, r.outcome, r.data, r._mapping["count"])
            for r in reversed(rows)
        ]


def _check(kind: str, name: str, values: Mapping[str, Any]) -> None:
    if kind not in KINDS:
        raise UsageError(f"account {kind} {name}", "is neither a user nor a group", "say `user` or `group`")
    if not name or len(name) > 63 or not name.isprintable() or any(c in " :/" for c in name):
        raise UsageError(f"{kind} {name!r:.70}", "is no name of an account", "give the name as `id` shows it")
    if values.get("role", "user") not in ROLES:
        raise UsageError(f"role {values['role']!r}", "is no role", f"choose one of {', '.join(ROLES)}")
    for key in _LIMITS:
        value = values.get(key)
        if key == "max_priority" and value is not None and not 0 <= value <= 100:
            raise UsageError(
                f"{key} {value}", "must be from 0 to 100", "give a priority, or `none` for the inventory's"
            )
        if value is not None and not 0 <= value < 1e9:
            raise UsageError(f"{key} {value}", "must be 0 or more", "give a number, or `none` for no limit")
