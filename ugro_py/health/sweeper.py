"""The health sweep: every node probed over a session of its own that is kept, none waiting for another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ansible_collections.ugro.cluster.plugins.module_utils import health as readings

from ugro_py.cluster import Cluster, Node
from ugro_py.compare import Finding
from ugro_py.health import catalog, findings, states
from ugro_py.health.node_health import NodeHealth
from ugro_py.health.probe import NodeProbe

if TYPE_CHECKING:
    from ugro_py.health.ledger import Ledger
    from ugro_py.state import Store

PULSE_S = 0.5
_LATE_S = 0.5
"""A pulse that comes later than this was held up here: the nodes are not to blame for the silence."""


class Sweeper:
    """Watches the health of all nodes. With a store, states, history, drains and events go there.

    Attributes:
        health: the newest of every node, by name; empty before the first probes.
        took_s: how long the last sweep took: all nodes are probed at the same time, so as long as its slowest probe.
        on_sweep: called by `run` with that whenever every node has been probed once more.
    """

    def __init__(self, cluster: Cluster, store: Store | None = None, *, interval_s: float | None = None) -> None:
        self.cluster = cluster
        self.health: dict[str, NodeHealth] = {}
        self.took_s = 0.0
        self.on_change: Callable[[NodeHealth], None] | None = None
        self.on_sweep: Callable[[float], None] | None = None
        self._swept: dict[str, int] = {}
        self._interval_s = interval_s
        self._ledger: Ledger | None = None
        if store is not None:
            from ugro_py.health.ledger import Ledger

            self._ledger = Ledger(cluster, store)
        self._memory: dict[str, findings.Memory] = {}
        self._found: dict[str, tuple[Finding, ...]] = {}
        self._counted: dict[str, dict[str, Finding]] = {}
        self._probes: dict[str, NodeProbe] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.use(cluster)

    def use(self, cluster: Cluster) -> None:
        """Go on with another state of the inventory: nodes that are new are probed, others are left alone."""
        self.cluster = cluster
        if self._ledger is not None:
            self._ledger.cluster = cluster
        interval_s = self._interval_s or cluster.settings.health_interval_s
        for node in cluster.nodes:
            known = self._probes.get(node.name)
            if known is None or known.node != node:
                self._forget(node.name)
                self._probes[node.name] = NodeProbe(node, self._judge, self._changed, interval_s)
                self._memory[node.name] = findings.Memory()
            self._probes[node.name].interval_s = interval_s
        for name in self._probes.keys() - {node.name for node in cluster.nodes}:
            self._forget(name)

    def _forget(self, name: str) -> None:
        for kept in (self._probes, self._swept, self.health, self._found, self._counted, self._memory):
            kept.pop(name, None)
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()

    async def run(self, stop: asyncio.Event) -> None:
        """Probe every node at the cluster's interval until `stop` is set."""
        if self._ledger is not None:
            await self._ledger.begin()
        ahead = time.monotonic() + PULSE_S
        try:
            while not stop.is_set():
                for name, probe in self._probes.items():
                    if name not in self._tasks:
                        self._tasks[name] = asyncio.create_task(probe.run(stop), name=f"health {name}")
                try:
                    await asyncio.wait_for(stop.wait(), PULSE_S)
                except TimeoutError:
                    ahead = await self._pulse(ahead)
                    self._note_sweep()
        finally:
            for probe in self._probes.values():
                probe.kick()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
            self._tasks.clear()

    async def _pulse(self, expected: float) -> float:
        now = time.monotonic()
        for probe in list(self._probes.values()):
            if now - expected > _LATE_S:
                probe.excuse(now - expected)
            probe.pulse(now)
            if probe.error is not None and not probe.state.failures and probe.state.observed != "unknown":
                await self._note_age(probe, now)
        for name, task in list(self._tasks.items()):
            if task.done():
                del self._tasks[name]
                task.result()  # an error in UGRO itself: the sweep must not go on as if all were well
        return now + PULSE_S

    def _note_sweep(self) -> None:
        """Note a sweep if every node has been probed since the last one."""
        if any(probe.probes <= self._swept.get(name, 0) for name, probe in self._probes.items()):
            return
        self._swept = {name: probe.probes for name, probe in self._probes.items()}
        self.took_s = max((probe.slowest_s for probe in self._probes.values()), default=0.0)
        for probe in self._probes.values():
            probe.slowest_s = 0.0
        if self.on_sweep is not None and self._probes:
            self.on_sweep(self.took_s)

    async def sweep(self) -> dict[str, NodeHealth]:
        """Probe every node once, all at the same time, and return the health of each."""
        begun = time.monotonic()
        if self._ledger is not None:
            await self._ledger.begin()
        await asyncio.gather(*(probe.once() for probe in self._probes.values()))
        self.took_s = time.monotonic() - begun
        return {node.name: self.health.get(node.name) or NodeHealth(node.name, "unknown") for node in self.nodes}

    async def close(self) -> None:
        """End all sessions; `run` does so itself."""
        await asyncio.gather(*(probe.close() for probe in self._probes.values()))

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes that are watched, in inventory order."""
        return self.cluster.nodes

    def reports(self) -> dict[str, dict[str, Any]]:
        """Return the newest readings of the nodes that answer, in inventory order; from any thread."""
        found = {node.name: self._probes.get(node.name) for node in self.nodes}
        return {
            name: probe.report
            for name, probe in found.items()
            if probe is not None and probe.report is not None and probe.state.observed != "unreachable"
        }

    # -- what a probe calls -----------------------------------------------------------------------------------

    def _judge(self, probe: NodeProbe, report: dict[str, Any]) -> set[str]:
        name = probe.node.name
        probe.report = report
        found = findings.findings_of(
            self.cluster,
            name,
            self.reports() | {name: report},
            memory=self._memory[name],
            held=self._ledger.held if self._ledger else (),
            since=self._ledger.since(name) if self._ledger else 0.0,
        )
        self._found[name] = tuple(found)
        bad = [item for item in found if item.severity != "ok" and catalog.counts(item.check)]
        return {findings.problem(item) for item in bad}

    async def _note_age(self, probe: NodeProbe, now: float) -> None:
        """Make it a finding that a node lives and gives no readings."""
        name = probe.node.name
        if now - probe.report_at <= findings.STALE_REPORT_S or "ssh_reachable" in self._counted.get(name, {}):
            return
        old = findings.stale(name, now - probe.report_at, probe.error.came_back if probe.error else "")
        self._found[name] = (*self._found.get(name, ()), old)
        probe.state = states.answered(
            probe.state, now, {*probe.state.problems, "ssh_reachable"}, states.Rules(1, 0, 1, 1)
        )
        await self._changed(probe)

    async def _changed(self, probe: NodeProbe) -> None:
        name = probe.node.name
        before = self.health.get(name)
        current = self._health_of(probe)
        self.health[name] = current
        if self._ledger is not None:
            await self._ledger.record(before, current, probe.report)
        if self.on_change is not None and (before is None or before.state != current.state):
            self.on_change(current)

    def _health_of(self, probe: NodeProbe) -> NodeHealth:
        name, state = probe.node.name, probe.state
        if state.observed in ("unreachable", "unknown") and probe.error is not None:
            said = probe.error.came_back or probe.error.what.removeprefix(f"{name}: ")
            item = Finding(name, "ssh_reachable", "critical", f"unreachable: {said}", probe.error.next_step)
            self._counted[name] = {}
            alone = (item,) if state.observed == "unreachable" else ()
            return NodeHealth(name, state.observed, said, self._summary(name, probe), alone, alone)
        newest = {findings.problem(item): item for item in self._found.get(name, ()) if item.severity != "ok"}
        # One that counts and was not seen by the newest probe counts as it was last seen.
        counting = {**self._counted.get(name, {}), **newest}
        counted = {key: item for key, item in counting.items() if key in state.problems}
        self._counted[name] = counted
        problems = tuple(sorted(counted.values(), key=lambda item: item.severity))  # critical before warning
        reason = problems[0].advice if problems else ""
        latency = probe.report["latency_ms"] if probe.report else None
        age = time.monotonic() - probe.report_at if probe.report else None
        summary = self._summary(name, probe)
        found = self._found.get(name, ())
        return NodeHealth(name, state.observed, reason, summary, found, problems, latency, age)

    def _summary(self, name: str, probe: NodeProbe) -> str:
        if probe.report is None:
            return ""
        share = findings.own_share(self.cluster, name, probe.report)
        summary: str = readings.summary(share["gpu"], share["node"])
        return summary
