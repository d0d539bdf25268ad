"""Nodes: the state of the cluster, what they do now, health, drains."""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.ugro.cluster.plugins.module_utils import health
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from ugro_py import events
from ugro_py.api.auth import Agent, Who, audited, check_admin
from ugro_py.api.models import Drain
from ugro_py.moments import exact, iso
from ugro_py.now import snapshot
from ugro_py.scheduler import Gpu
from ugro_py.state.rows import HealthRow, NodeRow
from ugro_py.state.views import cluster_state

router = APIRouter(prefix="/v1", tags=["nodes"])


@router.get("/state")
def show_state(agent: Agent, who: Who) -> dict[str, Any]:
    """Show nodes, who uses them, and jobs, in the form of cluster_state.json."""
    return cluster_state(agent.store, agent.cluster)


@router.get("/now", responses={200: {"model": dict[str, Any]}})
def show_now(request: Request, agent: Agent, who: Who) -> Response:
    """Show what `ugro top` does: nodes, their GPUs with the newest readings, and jobs with their progress.

    It is made at most once a second, for all who ask.
    """

    def made() -> bytes:
        return json.dumps(snapshot(agent.store, agent.cluster)).encode()

    return Response(request.app.state.live.shared.get("/v1/now", made), media_type="application/json")


@router.get("/nodes")
def list_nodes(agent: Agent, who: Who) -> list[dict[str, Any]]:
    """List the nodes of the inventory with their health, drains and GPUs."""
    rows = {row.name: row for row in agent.store.nodes()}
    busy, in_use = agent.store.busy(), agent.store.busy_nodes()
    gpus = agent.store.gpus()
    unusable = agent.store.unusable_gpus()
    found = []
    for node in agent.cluster.nodes:
        row = rows.get(node.name)
        found.append(
            {
                "node": node.name, "address": node.address, "role": node.role, "connection": node.connection,
                "user": node.user, "port": node.port, "gpu": node.gpu, "gpu_count": node.gpu_count,
                "vram_gb": node.vram_gb, "slots": node.slots, "summary": _summary(row, gpus),
                "health": row.health if row else "unknown", "reason": row.health_reason if row else "",
                "since": iso(row.health_since) if row else None,
                "drain": row.drain if row else False, "drain_reason": row.drain_reason if row else "",
                "drained_by": row.drained_by if row else None, "busy": node.name in in_use,
                "gpus": [
                    {"uuid": gpu.uuid, "index": gpu.index, "kind": gpu.kind, "name": gpu.name, "vram_gb": gpu.vram_gb,
                     "job": busy.get(gpu.uuid), "unusable": unusable.get(gpu.uuid)}
                    for gpu in gpus if gpu.node == node.name
                ],
            }
        )  # fmt: skip
    return found


@router.get("/health")
def show_health(agent: Agent, who: Who) -> list[dict[str, Any]]:
    """Show what the newest sweep found of each node."""
    return [_check(row) for row in agent.store.latest_checks().values()]


@router.get("/nodes/{node}/health")
def show_history(
    node: str, agent: Agent, who: Who, since: str = "1d", limit: int = Query(1000, ge=1, le=10_000)
) -> list[dict[str, Any]]:
    """Show what the sweeps found of a node since a time or for an age (`2h`, `7d`), oldest first."""
    agent.cluster.node(node)
    return [_check(row) for row in agent.store.health_history(node, events.since(since), limit)]


@router.post("/nodes/{node}/drain")
def drain(node: str, agent: Agent, who: Who, body: Drain | None = None) -> dict[str, Any]:
    """Keep new jobs away from a node; admins only."""
    reason = body.reason if body else ""
    with audited(agent, who, "drain", node, {"reason": reason}):
        check_admin(who, f"drain {node}")
        changed = agent.store.drain(node, who.person.user, reason, address=agent.cluster.node(node).address)
    agent.wake()
    return {"node": node, "drain": True, "changed": changed}


@router.post("/nodes/{node}/resume")
def resume(node: str, agent: Agent, who: Who) -> dict[str, Any]:
    """Let jobs onto a node again; admins only."""
    with audited(agent, who, "resume", node):
        check_admin(who, f"resume {node}")
        changed = agent.store.resume(node, who.person.user, address=agent.cluster.node(node).address)
    agent.wake()
    return {"node": node, "drain": False, "changed": changed}


def _summary(row: NodeRow | None, gpus: list[Gpu]) -> str:
    """Return what the node trains with, as `ugro health` says it; "" as long as it never answered."""
    if row is None or "node" not in row.facts:
        return ""
    own = [gpu for gpu in gpus if gpu.node == row.name and gpu.kind == "cuda"]
    cards = [{"lost": False, "name": gpu.name, "vram_total_gb": gpu.vram_gb} for gpu in own]
    summary: str = health.summary({"gpus": cards}, row.facts["node"])
    return summary


def _check(row: HealthRow) -> dict[str, Any]:
    return {
        "node": row.node, "at": exact(row.at), "state": row.state, "severity": row.severity,
        "latency_ms": row.latency_ms, "findings": [dict(finding) for finding in row.findings],
    }  # fmt: skip
