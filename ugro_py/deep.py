"""`ugro check --deep`: use the nodes as training will, instead of reading what is installed.

Every node computes on each of its devices; then those that did well do one all-reduce together, over the interfaces and
the backend that a job would use.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from ugro_py.cluster import Node
from ugro_py.compare import Finding
from ugro_py.errors import NodeError
from ugro_py.transport import Session, close_all, open_sessions

_TIMEOUT_S = 90.0
Reports = Mapping[str, dict[str, Any] | NodeError]


def deep_findings(nodes: Sequence[Node], reports: Reports) -> list[Finding]:
    """Return what came out, of every node that gave a report.

    Args:
        nodes: in inventory order; the first is the all-reduce's rank 0.
        reports: of `readings.report_all`; they name the network interfaces.
    """
    answering = [node for node in nodes if not isinstance(reports[node.name], NodeError)]
    return asyncio.run(_deep(answering, reports))


async def _deep(nodes: Sequence[Node], reports: Reports) -> list[Finding]:
    sessions = await open_sessions(nodes)
    try:
        results = await asyncio.gather(*(_call(sessions[node.name]) for node in nodes))
        found = [_compute_finding(node.name, result) for node, result in zip(nodes, results, strict=True)]
        fit = [node for node, finding in zip(nodes, found, strict=True) if finding.severity == "ok"]
        if len(fit) > 1:
            on_gpu = all(
                device["device"] != "cpu"
                for node, result in zip(nodes, results, strict=True)
                if node in fit
                for device in result["devices"]
            )
            found += await _all_reduce(fit, sessions, reports, "nccl" if on_gpu else "gloo")
        return found
    finally:
        await close_all(sessions.values())


async def _call(session: Session | NodeError, peers: Mapping[str, Any] | None = None) -> dict[str, Any]:
    if isinstance(session, NodeError):
        return {"error": session.came_back}
    try:
        result: dict[str, Any] = await session.call(
            "deep", train_python=session.node.train_python, peers=peers, timeout_s=_TIMEOUT_S
        )
    except NodeError as error:
        return {"error": error.came_back}
    return result


def _compute_finding(node: str, result: Mapping[str, Any]) -> Finding:
    if "error" in result:
        return Finding(
            node, "compute", "critical", f"torch does not run: {result['error']}", "`ugro bootstrap` installs it"
        )
    wrong = [device["device"] for device in result["devices"] if not device["correct"]]
    if wrong:
        text = f"{', '.join(wrong)} computes wrong results"
        return Finding(node, "compute", "critical", text, f"exclude it with `--exclude {node}` and have it tested")
    devices = ", ".join(device["device"] for device in result["devices"])
    return Finding(node, "compute", "ok", f"torch {result['torch']} computes on {devices}")


async def _all_reduce(
    nodes: Sequence[Node], sessions: Mapping[str, Session | NodeError], reports: Reports, backend: str
) -> list[Finding]:
    """Have the nodes do one all-reduce, one rank each."""
    first = nodes[0]
    port = await _free_port(sessions[first.name], first.address)

    async def one(rank: int, node: Node) -> dict[str, Any]:
        report = reports[node.name]
        assert not isinstance(report, NodeError)
        peers = {
            "rank": rank,
            "world_size": len(nodes),
            "address": first.address,
            "port": port,
            "backend": backend,
            "interface": report["node"].get("interface"),
        }
        return await _call(sessions[node.name], peers)

    results = await asyncio.gather(*(one(rank, node) for rank, node in enumerate(nodes)))
    return [
        _all_reduce_finding(node.name, result, len(nodes), backend) for node, result in zip(nodes, results, strict=True)
    ]


def _all_reduce_finding(node: str, result: Mapping[str, Any], count: int, backend: str) -> Finding:
    error = result.get("error") or ("" if result["correct"] else "the sum is wrong")
    if error:
        remedy = "see that the nodes reach each other on every port, and the node's interface in `ugro check --json`"
        return Finding(
            node, "all_reduce", "critical", f"all-reduce of {count} nodes ({backend}) failed: {error}", remedy
        )
    text = f"all-reduce of {result['mb']:.0f} MB with {count} nodes in {result['ms']:.1f} ms ({backend})"
    return Finding(node, "all_reduce", "ok", text, value=round(result["ms"], 2))


async def _free_port(session: Session | NodeError, address: str) -> int:
    """Return a port that is free on the node at this moment.

    Raises:
        NodeError: the node cannot listen on its address.
    """
    if isinstance(session, NodeError):
        raise session
    port = int((await session.call("listen", address=address))["port"])
    await session.call("unlisten", port=port)
    return port
