"""What the store knows of the nodes' health, for verbs that also work without any store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ugro_py import paths
from ugro_py.cluster import Cluster
from ugro_py.health import states

if TYPE_CHECKING:
    from ugro_py.state import NodeRow

_SQLITE = "sqlite:///"


def known_nodes(cluster: Cluster) -> tuple[dict[str, NodeRow], set[str]]:
    """Return what the store has of the cluster's nodes, and which of them a job has something on.

    Both are empty where there is no database yet; none is made. Of a store that is not the caller's its agent tells.

    Raises:
        StateError: there is one, and it cannot be used.
    """
    from ugro_py.api.client import connect

    client = connect(reading=True)
    if client is not None:
        told = client.get("/v1/nodes")
        return {entry["node"]: row_of(entry) for entry in told}, {entry["node"] for entry in told if busy(entry)}
    if not database_exists():
        return {}, set()
    from ugro_py.state import Store

    addresses = {node.name: node.address for node in cluster.nodes}
    with Store.open() as store:
        rows = {row.name: row for row in store.nodes() if addresses.get(row.name) == row.address}
        return rows, store.busy_nodes()


def database_exists() -> bool:
    """Say whether there is a state database, or one was named that is no file."""
    url = paths.database_url()
    return not url.startswith(_SQLITE) or Path(unquote(url.removeprefix(_SQLITE))).exists()


def shown(row: NodeRow | None, busy: bool, observed: str | None = None) -> str:
    """Return the one word for a node's state.

    Args:
        row: what the store has of it, if anything.
        busy: whether a job has something on it, see `Store.busy_nodes`.
        observed: what was just seen, in place of what the last sweep saw.
    """
    drained = row is not None and row.drain
    return states.shown(observed or (row.health if row else "unknown"), drained, busy)


def why(row: NodeRow | None) -> str:
    """Return by whom and why a node is drained; "" for one that is not."""
    if row is None or not row.drain:
        return ""
    return f"drained by {row.drained_by or 'somebody'}" + (f": {row.drain_reason}" if row.drain_reason else "")


def busy(entry: Mapping[str, Any]) -> bool:
    """Say whether a job has something on a node as the agent lists it."""
    return bool(entry.get("busy")) or any(gpu["job"] for gpu in entry["gpus"])  # an older agent tells of GPUs alone


def row_of(entry: Mapping[str, Any]) -> NodeRow:
    """Return a node as the agent's API lists it."""
    from ugro_py.state.rows import NodeRow

    drain = {key: entry[key] for key in ("drain", "drain_reason", "drained_by")}
    health = {"health": entry["health"], "health_reason": entry["reason"]}
    return NodeRow(entry["node"], entry["address"], "unknown", "", {}, None, **health, **drain)
