"""Nodes, GPUs and events in the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import insert, select, update

from ugro_py.cluster import Node
from ugro_py.errors import NotFoundError
from ugro_py.scheduler import Gpu
from ugro_py.state import models as tables
from ugro_py.state._base import Part, now
from ugro_py.state.rows import EventRow, NodeRow

_HEALED_BY_AN_ANSWER = ("unknown", "unreachable", "suspect")


class Nodes(Part):
    """What nodes and GPUs exist, and what happened."""

    def sync_node(self, node: Node, gpus: Sequence[Gpu], facts: Mapping[str, Any]) -> None:
        """Record what a node just answered: its address, facts and GPUs.

        GPUs of the node that are not among `gpus` are marked missing, never deleted. A node
        that was unknown or unreachable becomes available; one that was drained stays so.
        """
        with self.database.write() as connection:
            old = connection.execute(
                select(tables.nodes.c.status).where(tables.nodes.c.name == node.name).with_for_update()
            ).one_or_none()
            values = {"address": node.address, "facts": dict(facts), "last_seen": now()}
            if old is None:
                connection.execute(insert(tables.nodes).values(name=node.name, status="available", **values))
            else:
                if old.status in _HEALED_BY_AN_ANSWER:
                    values |= {"status": "available", "reason": ""}
                    self._event(connection, "node_status", f"{old.status} -> available", node=node.name)
                connection.execute(update(tables.nodes).where(tables.nodes.c.name == node.name).values(**values))
            query = (
                select(tables.gpus)
                .where((tables.gpus.c.node == node.name) | tables.gpus.c.uuid.in_([gpu.uuid for gpu in gpus]))
                .order_by(tables.gpus.c.uuid)  # the order in which `start_attempt` locks them
                .with_for_update()
            )
            known = {row["uuid"]: row for row in connection.execute(query).mappings()}
            for gpu in gpus:
                fields = {
                    "node": node.name,
                    "index": gpu.index,
                    "kind": gpu.kind,
                    "name": gpu.name,
                    "vram_gb": gpu.vram_gb,
                    "missing": False,
                }
                before = known.get(gpu.uuid)
                if before is None:
                    connection.execute(insert(tables.gpus).values(uuid=gpu.uuid, **fields))
                elif any(before[name] != value for name, value in fields.items()):
                    connection.execute(update(tables.gpus).where(tables.gpus.c.uuid == gpu.uuid).values(**fields))
                    if before["missing"]:
                        self._event(connection, "gpu_back", f"GPU {gpu.index} {gpu.uuid}", node=node.name)
            found = {gpu.uuid for gpu in gpus}
            for row in known.values():
                if row["node"] == node.name and row["uuid"] not in found and not row["missing"]:
                    connection.execute(
                        update(tables.gpus).where(tables.gpus.c.uuid == row["uuid"]).values(missing=True)
                    )
                    text = f"GPU {row['index']} {row['uuid']} ({row['name']}) is gone"
                    self._event(connection, "gpu_missing", text, node=node.name, severity="warning")

    def gpu_is_gone(self, uuid: str) -> None:
        """Mark a GPU missing that answers no more; what its node answers next says whether it has come back."""
        with self.database.write() as connection:
            connection.execute(update(tables.gpus).where(tables.gpus.c.uuid == uuid).values(missing=True))

    def gpus(self, nodes: Sequence[str] | None = None) -> list[Gpu]:
        """Return the GPUs that were there when their node last answered, by node name and index."""
        query = (
            select(tables.gpus)
            .where(tables.gpus.c.missing.is_(False))
            .order_by(tables.gpus.c.node, tables.gpus.c.index)
        )
        if nodes is not None:
            query = query.where(tables.gpus.c.node.in_(nodes))
        with self.database.read() as connection:
            rows = connection.execute(query).mappings().all()
        names = ("uuid", "node", "index", "kind", "name", "vram_gb")
        return [Gpu(**{name: row[name] for name in names}) for row in rows]

    def nodes(self) -> list[NodeRow]:
        """Return every node that ever answered or was given a status, by name."""
        with self.database.read() as connection:
            rows = connection.execute(select(tables.nodes).order_by(tables.nodes.c.name)).all()
        return [NodeRow(**row._mapping) for row in rows]

    def set_node_status(self, node: str, status: str, reason: str = "") -> None:
        """Set what is known of a node's condition and why; an event is added when it changes.

        Raises:
            NotFoundError: the node never answered, so nothing is known of it.
        """
        with self.database.write() as connection:
            old = connection.execute(
                select(tables.nodes.c.status, tables.nodes.c.reason)
                .where(tables.nodes.c.name == node)
                .with_for_update()
            ).one_or_none()
            if old is None:
                raise NotFoundError(f"node {node!r}", "it never answered", f"run `ugro check {node}`")
            if (old.status, old.reason) == (status, reason):
                return
            connection.execute(
                update(tables.nodes).where(tables.nodes.c.name == node).values(status=status, reason=reason)
            )
            text = f"{old.status} -> {status}" + (f": {reason}" if reason else "")
            severity = "info" if status == "available" else "warning"
            self._event(connection, "node_status", text, node=node, severity=severity)

    def busy(self) -> dict[str, str]:
        """Return the allocated GPUs: UUID -> name of the job that holds it."""
        query = (
            select(tables.allocations.c.gpu_uuid, tables.jobs.c.name)
            .join(tables.attempts, tables.attempts.c.id == tables.allocations.c.attempt_id)
            .join(tables.jobs, tables.jobs.c.id == tables.attempts.c.job_id)
            .where(tables.allocations.c.released_at.is_(None))
            .order_by(tables.allocations.c.id)
        )
        with self.database.read() as connection:
            return {row.gpu_uuid: row.name for row in connection.execute(query)}

    def add_event(
        self,
        kind: str,
        text: str,
        *,
        job: str | None = None,
        node: str | None = None,
        rank: int | None = None,
        severity: str = "info",
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """Record that something happened. `severity` is info, warning or error.

        Raises:
            LostControlError: it happened to a job; see `Store.acting_as`.
            NotFoundError: there is no such job.
        """
        with self.database.write() as connection:
            find = self._job_id if self.fence is None else self._controlled
            job_id = None if job is None else find(connection, job)
            self._event(connection, kind, text, job_id=job_id, node=node, rank=rank, severity=severity, data=data)

    def events(self, job: str | None = None, limit: int = 100) -> list[EventRow]:
        """Return the newest `limit` events, oldest first; with `job`, those of that job.

        Raises:
            NotFoundError: there is no such job.
        """
        query = (
            select(tables.events, tables.jobs.c.name.label("job"))
            .join(tables.jobs, tables.jobs.c.id == tables.events.c.job_id, isouter=True)
            .order_by(tables.events.c.id.desc())
            .limit(limit)
        )
        with self.database.read() as connection:
            if job is not None:
                query = query.where(tables.events.c.job_id == self._job_id(connection, job))
            rows = connection.execute(query).all()
        return [EventRow(r.at, r.kind, r.severity, r.text, r.job, r.node, r.rank, r.data) for r in reversed(rows)]
