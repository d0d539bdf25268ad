"""What the sweep writes into the store: states and history, events, drains, what a node has."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ugro_py.cluster import Cluster
from ugro_py.compare import Finding
from ugro_py.health import findings
from ugro_py.health.drains import drain_for, lift_where_well
from ugro_py.ready import facts_of, gpus_of
from ugro_py.scheduler import Gpu
from ugro_py.state._health import Check

if TYPE_CHECKING:
    from ugro_py.health.node_health import NodeHealth
    from ugro_py.state import Store

KEEP_EVERY_S = 60.0
"""How often a node is written down of which nothing has changed; a change is written at once."""

_FORGET_EVERY_S = 3600.0
_LOOK_EVERY_S = 5.0


class Ledger:
    """Writes for one sweeper. Every method that touches the database does so in a thread.

    Attributes:
        held: UUIDs of the GPUs that jobs held when this was last looked up.
    """

    def __init__(self, cluster: Cluster, store: Store) -> None:
        self.cluster = cluster
        self.store = store
        self.held: frozenset[str] = frozenset()
        self._written: dict[str, tuple[float, Any]] = {}
        self._has: dict[str, Any] = {}
        self._there: frozenset[str] = frozenset()
        self._resumed: dict[str, datetime] = {}
        self._looked_at = float("-inf")
        self._forgotten_at = float("-inf")
        self._lock = asyncio.Lock()

    async def begin(self) -> None:
        """Read what is needed before the first probe is judged."""
        await asyncio.to_thread(self._look)

    def since(self, name: str) -> float:
        """Return from which Unix time on a node's Xid errors count: since somebody last said that all is well."""
        at = self._resumed.get(name)
        return at.timestamp() if at else 0.0

    def _look(self) -> None:
        self._looked_at = time.monotonic()
        self.held = frozenset(self.store.busy())
        self._resumed = self.store.resumed_at()
        # Others mark GPUs missing too: a launch that reads a node, a job that lost one.
        self._there = frozenset(gpu.uuid for gpu in self.store.gpus())

    async def record(self, before: NodeHealth | None, now: NodeHealth, report: dict[str, Any] | None) -> None:
        """Write down the health of a node as far as that is news, and do what follows from it."""
        unusable = gpus = None
        if report is not None and now.state != "unreachable":
            gpus = self._gpus(now.node, report)
            slots = [gpu.uuid for gpu in gpus]
            ours = findings.without_ours(report, self.held)
            unusable = findings.unusable(self.cluster, now.node, ours, now.problems, slots, self.since(now.node))
        news = (now.state, tuple(sorted(findings.problem(item) for item in now.problems)), unusable)
        at, old = self._written.get(now.node, (float("-inf"), None))
        due = now.state != "unknown" and (news != old or time.monotonic() - at >= KEEP_EVERY_S)
        if due:
            self._written[now.node] = (time.monotonic(), news)
        if (
            due
            or time.monotonic() - self._looked_at >= _LOOK_EVERY_S
            or (gpus and self._is_new(now.node, gpus, report))
        ):
            async with self._lock:
                await asyncio.to_thread(self._record, before, now, report, gpus, unusable if due else None, due)

    def _record(
        self,
        before: NodeHealth | None,
        now: NodeHealth,
        report: dict[str, Any] | None,
        gpus: list[Gpu] | None,
        unusable: Mapping[str, str] | None,
        due: bool,
    ) -> None:
        self._look()
        if report is not None and gpus is not None and self._is_new(now.node, gpus, report):
            self.store.sync_node(self.cluster.node(now.node), gpus, facts_of(report))
            self._has[now.node] = _what(gpus, report)
            self._there |= {gpu.uuid for gpu in gpus}
        if due:
            self.store.record_checks([self._check(now, unusable)])
            self._tell(before, now)
            lift_where_well(self.store, [now.node])
        if time.monotonic() - self._forgotten_at > _FORGET_EVERY_S:
            self._forgotten_at = time.monotonic()
            self.store.forget_health(self.cluster.settings.health_retention_days)
            self.store.forget_audit(self.cluster.settings.audit_days)

    def _gpus(self, name: str, report: dict[str, Any]) -> list[Gpu]:
        """Return what the node has to train on; logical nodes of this machine share it by turns."""
        alone = [node for node in self.cluster.nodes if node.connection == "local" or node.name == name]
        return gpus_of(alone, dict.fromkeys([node.name for node in alone], report))[name]

    def _is_new(self, name: str, gpus: list[Gpu], report: dict[str, Any] | None) -> bool:
        if report is None:
            return False
        return self._has.get(name) != _what(gpus, report) or not self._there.issuperset(gpu.uuid for gpu in gpus)

    def _check(self, now: NodeHealth, unusable: Mapping[str, str] | None) -> Check:
        return Check(
            now.node,
            self.cluster.node(now.node).address,
            now.state,
            now.reason,
            now.severity,
            now.latency_ms,
            [asdict(item) for item in now.findings if item.severity != "ok"],
            unusable,
        )

    def _tell(self, before: NodeHealth | None, now: NodeHealth) -> None:
        """Add an event for each problem that has begun or is over, and drain the node where one demands it."""
        if now.state in ("unreachable", "unknown"):
            return  # that it is unreachable is an event of its own; its problems are not known
        known = {findings.problem(item) for item in before.problems} if before else set()
        current = {findings.problem(item): item for item in now.problems}
        for key, item in current.items():
            if key not in known:
                self._begun(item)
        for item in before.problems if before else ():
            if findings.problem(item) not in current and before and before.state != "unreachable":
                data = {"check": item.check, "value": item.value}
                self.store.add_event("health_cleared", f"{item.check} is well again", node=item.node, data=data)

    def _begun(self, item: Finding) -> None:
        severity = "error" if item.severity == "critical" else "warning"
        data = {"check": item.check, "severity": item.severity, "value": item.value}
        self.store.add_event("health_finding", item.advice, node=item.node, severity=severity, data=data)
        drain_for(self.store, item)


def _what(gpus: list[Gpu], report: Mapping[str, Any]) -> Any:
    """Return what makes it worth telling the store anew what a node has."""
    return (gpus, report["node"]["boot_id"], report["node"]["train_python"], report["gpu"]["driver"])
