"""Health of nodes in the store: states, history, and what no job may be placed on; drains are in `_drains`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from ugro_py.state._base import now
from ugro_py.state._drains import Drains
from ugro_py.state._recovery import COLLECT_KINDS, uncollected
from ugro_py.state.models import allocations, attempts, events, gpus, health_checks, jobs, nodes, ranks
from ugro_py.state.rows import HealthRow

STALE_AFTER_S = 120.0
"""A check older than this proves nothing any more: whoever made it has stopped, and the node may have changed."""


@dataclass(frozen=True)
class Check:
    """What one sweep found of one node.

    Attributes:
        state: healthy, degraded or unreachable, after hysteresis.
        reason: why it is not healthy, in one line.
        severity: the highest of the findings.
        findings: those that are not ok, JSON-able.
        unusable: GPU UUID -> why no job may have it; None where the GPUs could not be read.
        keep: whether a row of the history is written; the states are current in any case.
    """

    node: str
    address: str
    state: str
    reason: str = ""
    severity: str = "ok"
    latency_ms: float | None = None
    findings: Sequence[Mapping[str, Any]] = field(default=())
    unusable: Mapping[str, str] | None = None
    keep: bool = True


class Health(Drains):
    """Health of nodes in the store: states, history, drains."""

    def record_checks(self, checks: Sequence[Check]) -> list[str]:
        """Record what a sweep found; an event is added where a node's state changed.

        Returns:
            The nodes whose state changed.
        """
        changed = []
        with self.database.write() as connection:
            for check in checks:
                if self._set_health(connection, check):
                    changed.append(check.node)
                if check.keep:
                    connection.execute(
                        insert(health_checks).values(
                            node=check.node,
                            at=now(),
                            state=check.state,
                            severity=check.severity,
                            latency_ms=check.latency_ms,
                            findings=[dict(finding) for finding in check.findings],
                        )
                    )
                if check.unusable is not None:
                    self._set_unusable(connection, check.node, check.unusable)
        return changed

    def _set_health(self, connection: Connection, check: Check) -> bool:
        old = self._locked(connection, check.node, check.address)
        at = now()
        values: dict[str, Any] = {"health": check.state, "health_reason": check.reason, "health_at": at}
        changed: bool = old.health != check.state
        if changed:
            values["health_since"] = at
            text = f"{old.health} -> {check.state}" + (f": {check.reason}" if check.reason else "")
            severity = {"unreachable": "error", "degraded": "warning"}.get(check.state, "info")
            data = {"from": old.health, "to": check.state, "severity": check.severity}
            self._event(connection, "node_health", text, node=check.node, severity=severity, data=data)
        if check.state == "unreachable":
            values |= {"status": "unreachable", "reason": check.reason}
        else:
            values["last_seen"] = at
            if old.status in ("unknown", "unreachable", "suspect"):
                values |= {"status": "available", "reason": ""}
        connection.execute(update(nodes).where(nodes.c.name == check.node).values(**values))
        return changed

    @staticmethod
    def _set_unusable(connection: Connection, node: str, unusable: Mapping[str, str]) -> None:
        known = connection.execute(select(gpus.c.uuid, gpus.c.unusable).where(gpus.c.node == node)).all()
        for row in known:
            reason = unusable.get(row.uuid, "")
            if reason != row.unusable:
                connection.execute(update(gpus).where(gpus.c.uuid == row.uuid).values(unusable=reason))

    def unschedulable(self) -> dict[str, str]:
        """Return the nodes that no new job may be placed on, and why.

        Those that are drained, by a person or by the health sweep; and those that the newest check could not reach,
        unless that check is so old that it proves nothing.
        """
        with self.database.read() as connection:
            rows = connection.execute(select(nodes)).all()
        found = {}
        for row in rows:
            if row.drain:
                by = f" by {row.drained_by}" if row.drained_by else ""
                found[row.name] = f"{row.name} is drained{by}" + (f": {row.drain_reason}" if row.drain_reason else "")
            elif row.health == "unreachable" and _fresh(row.health_at):
                found[row.name] = f"{row.name} is unreachable" + (f": {row.health_reason}" if row.health_reason else "")
        return found

    def unusable_gpus(self) -> dict[str, str]:
        """Return the GPUs (UUID) that no new job may get although nobody of ours holds them, and why.

        Those that were gone when their node last answered, and those that the newest check found sick or used by
        somebody else, unless that check is so old that it proves nothing.
        """
        query = select(gpus, nodes.c.health_at).join(nodes, nodes.c.name == gpus.c.node).order_by(gpus.c.uuid)
        with self.database.read() as connection:
            rows = connection.execute(query).all()
        found = {}
        for row in rows:
            if row.missing:
                found[row.uuid] = f"GPU {row.index} of {row.node} is gone"
            elif row.unusable and _fresh(row.health_at):
                found[row.uuid] = row.unusable
        return found

    def busy_nodes(self) -> set[str]:
        """Return the nodes where a job has something: one of these that is drained is still draining.

        It holds a GPU there, or what an attempt of it wrote there is being brought in.
        """
        query = (
            select(gpus.c.node)
            .join(allocations, allocations.c.gpu_uuid == gpus.c.uuid)
            .where(allocations.c.released_at.is_(None))
            .distinct()
        )
        with self.database.read() as connection:
            collecting = select(ranks.c.node).where(ranks.c.attempt_id.in_(self._collecting(connection))).distinct()
            return {*connection.scalars(query), *connection.scalars(collecting)}

    @staticmethod
    def _collecting(connection: Connection) -> set[int]:
        """Return the ids of the attempts that are being collected: the newest of a job, or one before that."""
        runs = jobs.c.status.in_(("starting", "running", "collecting"))
        query = select(attempts.c.id, attempts.c.number, attempts.c.job_id, jobs.c.status).join(jobs).where(runs)
        rows = connection.execute(query.order_by(attempts.c.id)).all()
        newest = {row.job_id: row for row in rows}
        found = {row.id for row in newest.values() if row.status == "collecting"}
        retried = [row.job_id for row in newest.values() if row.number > 1]
        told: dict[int, list[tuple[str, Mapping[str, Any] | None]]] = defaultdict(list)
        if retried:
            of = select(events).where(events.c.job_id.in_(retried), events.c.kind.in_(COLLECT_KINDS))
            for event in connection.execute(of.order_by(events.c.id)):
                told[event.job_id].append((event.kind, event.data))
        left = {(job_id, number) for job_id, of_job in told.items() for number in uncollected(of_job)}
        return found | {row.id for row in rows if (row.job_id, row.number) in left}

    def latest_checks(self) -> dict[str, HealthRow]:
        """Return the newest row of the history of every node."""
        newest = select(func.max(health_checks.c.id)).group_by(health_checks.c.node)
        with self.database.read() as connection:
            rows = connection.execute(select(health_checks).where(health_checks.c.id.in_(newest))).all()
        return {row.node: _health_row(row) for row in rows}

    def health_history(
        self, node: str, since: datetime | None = None, limit: int = 1000, until: datetime | None = None
    ) -> list[HealthRow]:
        """Return the newest `limit` checks of a node, those after `since` and up to `until` if given, oldest first."""
        query = select(health_checks).where(health_checks.c.node == node)
        if since is not None:
            query = query.where(health_checks.c.at > since)
        if until is not None:
            query = query.where(health_checks.c.at <= until)
        with self.database.read() as connection:
            rows = connection.execute(query.order_by(health_checks.c.id.desc()).limit(limit)).all()
        return [_health_row(row) for row in reversed(rows)]

    def forget_health(self, days: float) -> int:
        """Remove the history that is older than `days`, and return how many rows that were."""
        with self.database.write() as connection:
            result = connection.execute(delete(health_checks).where(health_checks.c.at < now() - timedelta(days=days)))
        return result.rowcount


def _fresh(at: datetime | None) -> bool:
    return at is not None and (now() - at).total_seconds() < STALE_AFTER_S


def _health_row(row: Any) -> HealthRow:
    return HealthRow(row.node, row.at, row.state, row.severity, row.latency_ms, tuple(row.findings))
