"""When the health sweep drains a node and ends that again, and the drains of people."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from ugro_py import users
from ugro_py.cluster import Cluster
from ugro_py.compare import Finding
from ugro_py.health import catalog, states

if TYPE_CHECKING:
    from ugro_py.state import Store
    from ugro_py.state.rows import HealthRow


def drain_for(store: Store, item: Finding) -> bool:
    """Drain the node of a finding that demands it, unless somebody resumed it knowing this; return whether it was."""
    from ugro_py.state._drains import BY_HEALTH

    if not catalog.drains(item.check, item.severity, item.value):
        return False
    if item.text in store.overruled_drains(item.node):
        return False
    return store.drain(item.node, BY_HEALTH, item.text, lasts=catalog.lasts(item.check))


def lift_where_well(store: Store, nodes: Collection[str]) -> list[str]:
    """End the health sweep's drains of those of the nodes that have been well since; return these.

    Called after their checks were recorded: the history tells, so it does not matter who made them.
    """
    lifted = []
    for node, since in store.liftable().items():
        if node in nodes:
            checks = [(row.at.timestamp(), _is_clean(row)) for row in store.health_history(node, since, limit=100)]
            if states.healed(checks) and store.lift(node, "it has been well since"):
                lifted.append(node)
    return lifted


def _is_clean(row: HealthRow) -> bool:
    drains = any(catalog.drains(item["check"], item["severity"], item.get("value")) for item in row.findings)
    return row.state in ("healthy", "degraded") and not drains


def drain(cluster: Cluster, name: str, reason: str) -> bool:
    """Keep new jobs away from a node, as the user who runs this; return whether that is news.

    Where an agent is responsible it decides whether the user may.

    Raises:
        NotFoundError: the cluster has no such node.
    """
    from ugro_py.api.client import connect

    node = cluster.node(name)
    client = connect()
    if client is not None:
        return bool(client.post(f"/v1/nodes/{node.name}/drain", {"reason": reason})["changed"])
    from ugro_py.audit import audited_here
    from ugro_py.state import Store

    with Store.open() as store, audited_here(store, "drain", node.name, reason=reason):
        return store.drain(node.name, users.me().user, reason, address=node.address)


def resume(cluster: Cluster, name: str) -> bool:
    """Let jobs onto a node again; return whether it was drained.

    Raises:
        NotFoundError: the cluster has no such node.
    """
    from ugro_py.api.client import connect

    node = cluster.node(name)
    client = connect()
    if client is not None:
        return bool(client.post(f"/v1/nodes/{node.name}/resume", {})["changed"])
    from ugro_py.audit import audited_here
    from ugro_py.state import Store

    with Store.open() as store, audited_here(store, "resume", node.name):
        return store.resume(node.name, users.me().user, address=node.address)
