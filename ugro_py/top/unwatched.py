"""How the nodes of a cluster without an agent are: nobody looks at them, so `ugro top --once` asks them itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ugro_py import now
from ugro_py.health import catalog
from ugro_py.health.known import shown
from ugro_py.health.now import observed
from ugro_py.readings import LateError, report_all
from ugro_py.verify import Verdict, judge

if TYPE_CHECKING:
    from ugro_py.cluster import Cluster
    from ugro_py.errors import NodeError
    from ugro_py.state import Store

WITHIN_S = 5.0
"""A node that has not answered by then is not waited for: the rest is known, and who asked wants to see it."""


def stored(store: Store, cluster: Cluster) -> dict[str, Any]:
    """Return `now.snapshot`; of nodes whose state is not known, `reason` says how to learn it."""
    found = now.snapshot(store, cluster)
    names = {node.name for node in cluster.nodes}
    for entry in found["nodes"]:
        if entry["node"] in names and entry["state"] == "unknown" and not entry["reason"]:
            entry["reason"] = "nobody has looked at it; `ugro health` does"
    return found


def asked(store: Store, cluster: Cluster) -> dict[str, Any]:
    """Return `now.snapshot` with the nodes' state as `ugro health` finds it: they are asked, all at once.

    One that does not answer within `WITHIN_S` is unknown, and its `reason` says so.
    """
    found: dict[str, Any] = {}
    reports = report_all(cluster.nodes, lambda: found.update(now.snapshot(store, cluster)), within_s=WITHIN_S)
    verdict = judge(cluster.nodes, reports, cluster.settings.health_thresholds)
    addresses = {node.name: node.address for node in cluster.nodes}
    rows = {row.name: row for row in store.nodes() if addresses.get(row.name) == row.address}
    busy = store.busy_nodes()
    for entry in found["nodes"]:
        name = entry["node"]
        if name in reports:
            state, reason = _seen(name, reports[name], verdict)
            row = rows.get(name)
            entry["state"] = shown(row, name in busy, state)
            if row is None or not row.drain:
                entry["reason"] = reason
    return found


def _seen(name: str, report: Mapping[str, Any] | NodeError, verdict: Verdict) -> tuple[str, str]:
    """Return a node's state and the first thing that is wrong with it, or ""."""
    if isinstance(report, LateError):
        return "unknown", f"{report.came_back}; `ugro health` waits longer"
    wrong = [item for item in verdict.of(name) if item.severity != "ok" and catalog.counts(item.check)]
    wrong.sort(key=lambda item: item.severity != "critical")
    return observed(verdict, name), wrong[0].advice if wrong else ""
