"""The page Health: what the sweeps found of each node and what to do about it; alerts; drains."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from ugro_py.health import catalog
from ugro_py.health.known import shown, why
from ugro_py.web.live import Look, Parts, live, parts_of
from ugro_py.web.render import FORGERY_PLACE, html, ident, render
from ugro_py.web.session import Viewer

if TYPE_CHECKING:
    from ugro_py.state.rows import NodeRow

router = APIRouter(include_in_schema=False)

_WORST = ("unreachable", "degraded", "draining", "drained", "unknown", "healthy")
_ALERTS = 50


@router.get("/health")
def show(request: Request, who: Viewer) -> HTMLResponse:
    """Show the health of the nodes."""
    return render(
        request,
        "health.html",
        title="Health",
        watched=request.app.state.agent.watches,
        **parts_of(request, "health", who),
    )


@live("health")
def parts(look: Look) -> Parts:
    """Make the alerts, and a card for each node: those that are not well come first."""
    nodes = look.shared.get("health", lambda: _nodes(look))
    told = look.shared.get("alerts", lambda: look.agent.store.alerts(unfinished=True))
    alerts = [row for row in told if row.resolved_at is None]
    counts = {state: sum(node["state"] == state for node in nodes) for state in _WORST}
    page = {"csrf": FORGERY_PLACE, "look": look}
    made = {
        "health-figures": html("parts/health_figures.html", counts=counts, total=len(nodes)),
        "health-alerts": html("parts/health_alerts.html", alerts=alerts[:_ALERTS], more=max(0, len(alerts) - _ALERTS)),
    }
    if not nodes:
        made["cluster-empty"] = html("parts/cluster_empty.html")
    for node in sorted(nodes, key=lambda node: _WORST.index(node["state"])):
        name = f"health-{ident(node['node'])}"
        made[name] = html("parts/health_node.html", id=name, node=node, **page)
    return made


def _since(row: NodeRow | None, drained: Mapping[str, datetime]) -> datetime | None:
    """Return since when a node is as it is shown: one that is drained was, whatever its health, fine before that."""
    if row is None or not row.drain:
        return row.health_since if row else None
    return drained.get(row.name)


def _nodes(look: Look) -> list[dict[str, Any]]:
    store = look.agent.store
    rows, checks, busy = {row.name: row for row in store.nodes()}, store.latest_checks(), store.busy_nodes()
    drained = store.drained_since()
    found = []
    for node in look.agent.cluster.nodes:
        row, check = rows.get(node.name), checks.get(node.name)
        findings = [dict(item) for item in (check.findings if check else ()) if item.get("severity") != "ok"]
        for item in findings:
            known = catalog.CHECKS.get(str(item.get("check")))
            item["looks_at"] = known.looks_at if known else ""
        found.append(
            {
                "node": node.name, "address": node.address, "state": shown(row, node.name in busy),
                "reason": row.health_reason if row else "", "since": _since(row, drained),
                "drain": bool(row and row.drain), "drained": why(row),
                "latency_ms": check.latency_ms if check else None,
                # To the minute: a page that says nothing new need not be sent again with every sweep.
                "at": row.health_at.replace(second=0, microsecond=0) if row and row.health_at else None,
                "findings": findings,
            }
        )  # fmt: skip
    return found
