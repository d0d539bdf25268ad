"""When the health sweep drains a node, and the drains of people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ugro_py import users
from ugro_py.cluster import Cluster
from ugro_py.compare import Finding
from ugro_py.health import catalog

if TYPE_CHECKING:
    from ugro_py.state import Store


def drain_for(store: Store, item: Finding) -> bool:
    """Drain the node of a finding that demands it, unless somebody resumed it knowing this; return whether it was."""
    from ugro_py.state._health import BY_HEALTH

    if not catalog.drains(item.check, item.severity, item.value):
        return False
    if item.text in store.overruled_drains(item.node):
        return False
    return store.drain(item.node, BY_HEALTH, item.text)


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
    from ugro_py.state import Store

    with Store.open() as store:
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
    from ugro_py.state import Store

    with Store.open() as store:
        return store.resume(node.name, users.me().user, address=node.address)
