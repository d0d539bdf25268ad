"""`ugro health`: what the nodes say now, and what the store says of drains."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import TYPE_CHECKING, Any

from ugro_py.health import catalog
from ugro_py.health.known import shown, why
from ugro_py.verify import Verdict

if TYPE_CHECKING:
    from ugro_py.state import NodeRow


def observed(verdict: Verdict, node: str) -> str:
    """Return the state that one reading of a node speaks for, without hysteresis."""
    if verdict.is_unreachable(node):
        return "unreachable"
    bad = any(item.severity != "ok" and catalog.counts(item.check) for item in verdict.of(node))
    return "degraded" if bad else "healthy"


def lines(verdict: Verdict, rows: Mapping[str, NodeRow], busy: Set[str]) -> list[str]:
    """Return the lines of the verdict, and one for each node that gets no new job although it is well."""
    drained = [
        f"- {node}: {shown(rows.get(node), node in busy, 'healthy')}, {why(rows[node])}; "
        f"`ugro nodes resume {node}` lets jobs onto it again"
        for node in verdict.summaries
        if node in rows and rows[node].drain
    ]
    return verdict.lines() + drained


def as_json(verdict: Verdict, rows: Mapping[str, NodeRow], busy: Set[str]) -> dict[str, Any]:
    """Return the verdict as JSON-able data, each node with its `state` and why it is drained (`drain`, or "")."""
    data = verdict.as_json()
    for node, entry in data["nodes"].items():
        entry["state"] = shown(rows.get(node), node in busy, observed(verdict, node))
        entry["drain"] = why(rows.get(node))
    return data
