"""Drains in the store: nodes that get no new job, by whose word, and when the health sweep takes its own back."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, func, insert, select, update

from ugro_py.errors import NotFoundError
from ugro_py.state._base import Part, now
from ugro_py.state.models import events, gpus, nodes

BY_HEALTH = "health"
"""Who drained a node, where it was no person."""

LASTS_AFTER_S = 86400.0
"""A node that the health sweep drains again so soon after it lifted a drain stays drained: something is loose there."""


class Drains(Part):
    """Drains of nodes: by people, and by the health sweep."""

    @staticmethod
    def _locked(connection: Connection, node: str, address: str | None) -> Any:
        """Return the row of a node, made where it is not there yet and an address is given."""
        query = select(nodes).where(nodes.c.name == node).with_for_update()
        found = connection.execute(query).one_or_none()
        if found is None:
            if address is None:
                raise NotFoundError(f"node {node!r}", "it never answered", f"run `ugro check {node}`")
            connection.execute(insert(nodes).values(name=node, address=address, status="unknown", facts={}))
            found = connection.execute(query).one()
        return found

    def drain(self, node: str, by: str, reason: str = "", *, lasts: bool = True, address: str | None = None) -> bool:
        """Keep new jobs away from a node; what runs there goes on to its end.

        A drain by a person takes the place of one by the health sweep (`BY_HEALTH`), never the other way round.

        Args:
            node: its name.
            by: the user, or `BY_HEALTH`.
            reason: shown wherever the node is.
            lasts: only a person ends it; else the health sweep may (`lift`), unless it did so a short time ago.
            address: makes a node known that never answered.

        Returns:
            Whether that changed anything.

        Raises:
            NotFoundError: the node never answered, and no address was given.
        """
        with self.database.write() as connection:
            old = self._locked(connection, node, address)
            if old.drain and by == BY_HEALTH and (old.drained_by != BY_HEALTH or old.drain_lasts or not lasts):
                return False
            if old.drain and (old.drained_by, old.drain_reason, old.drain_lasts) == (by, reason, lasts):
                return False
            lasts = lasts or self._lifted_lately(connection, node)
            values = {"drain": True, "drained_by": by, "drain_reason": reason, "drain_lasts": lasts}
            connection.execute(update(nodes).where(nodes.c.name == node).values(**values))
            text = f"drained by {by}" + (f": {reason}" if reason else "")
            severity = "error" if by == BY_HEALTH else "info"
            self._event(connection, "node_drain", text, node=node, severity=severity, data={"by": by, "reason": reason})
        return True

    def resume(self, node: str, by: str, *, address: str | None = None) -> bool:
        """Let jobs onto a node again, whoever drained it.

        Returns:
            Whether it was drained.

        Raises:
            NotFoundError: the node never answered, and no address was given.
        """
        with self.database.write() as connection:
            old = self._locked(connection, node, address)
            if not old.drain:
                return False
            self._end(connection, node, by)
        return True

    def _end(self, connection: Connection, node: str, by: str, why: str = "") -> None:
        values = {"drain": False, "drained_by": None, "drain_reason": "", "drain_lasts": True}
        connection.execute(update(nodes).where(nodes.c.name == node).values(**values))
        text = f"resumed by {by}" + (f": {why}" if why else "")
        self._event(connection, "node_resume", text, node=node, data={"by": by})

    def drained_since(self) -> dict[str, datetime]:
        """Return when each node that is drained was last told to be, as far as the events go back."""
        return self._drained(nodes.c.drain)

    def liftable(self) -> dict[str, datetime]:
        """Return the nodes whose drain the health sweep may end once they are well, and since when they are drained."""
        return self._drained(nodes.c.drain, nodes.c.drained_by == BY_HEALTH, ~nodes.c.drain_lasts)

    def _drained(self, *those: ColumnElement[bool] | Column[bool]) -> dict[str, datetime]:
        query = (
            select(nodes.c.name, func.max(events.c.at).label("at"))
            .join(events, (events.c.node == nodes.c.name) & (events.c.kind == "node_drain"))
            .where(*those)
            .group_by(nodes.c.name)
        )
        with self.database.read() as connection:
            return {row.name: row.at for row in connection.execute(query)}

    def lift(self, node: str, why: str) -> bool:
        """Let jobs onto a node again that the health sweep drained, for `why`; return whether that was done.

        It is not where a person has drained the node meanwhile, where only a person ends the drain, or where a GPU that
        the node had is still gone.
        """
        gone = select(gpus.c.uuid).where(gpus.c.node == node, gpus.c.missing).limit(1)
        with self.database.write() as connection:
            old = self._locked(connection, node, None)
            if not old.drain or old.drained_by != BY_HEALTH or old.drain_lasts or connection.execute(gone).first():
                return False
            self._end(connection, node, BY_HEALTH, why)
        return True

    @staticmethod
    def _lifted_lately(connection: Connection, node: str) -> bool:
        query = select(events.c.id).where(
            events.c.node == node,
            events.c.kind == "node_resume",
            events.c.at > now() - timedelta(seconds=LASTS_AFTER_S),
            events.c.data["by"].as_string() == BY_HEALTH,
        )
        return connection.execute(query.limit(1)).first() is not None

    def resumed_at(self) -> dict[str, datetime]:
        """Return when a person last resumed a node, of those that were ever resumed."""
        query = select(events.c.node, func.max(events.c.at).label("at")).where(
            events.c.kind == "node_resume", events.c.data["by"].as_string() != BY_HEALTH
        )
        with self.database.read() as connection:
            return {row.node: row.at for row in connection.execute(query.group_by(events.c.node))}

    def overruled_drains(self, node: str) -> set[str]:
        """Return for which reasons the health sweep drained the node before somebody resumed it all the same.

        The same reason is none to drain it again, until the node has been healthy once: whoever resumed it knew.
        """
        query = (
            select(events.c.kind, events.c.data)
            .where(events.c.node == node, events.c.kind.in_(["node_drain", "node_resume", "node_health"]))
            .order_by(events.c.id)
        )
        with self.database.read() as connection:
            rows = connection.execute(query).all()
        drained: set[str] = set()
        overruled: set[str] = set()
        for kind, data in rows:
            if kind == "node_drain" and data["by"] == BY_HEALTH:
                drained.add(data["reason"])
            elif kind == "node_resume" and data["by"] == BY_HEALTH:
                drained = set()
            elif kind == "node_resume":
                overruled |= drained
            elif kind == "node_health" and data["to"] == "healthy":
                drained, overruled = set(), set()
        return overruled
