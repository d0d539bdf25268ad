"""The nodes' health as the agent knows it, for `ugro health` of somebody whose store is the agent's alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ugro_py.compare import Finding
from ugro_py.health import catalog
from ugro_py.health.known import busy, row_of, shown, why
from ugro_py.verify import Verdict, from_item, unreachable

if TYPE_CHECKING:
    from ugro_py.api.client import Client

Told = tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]


def told(client: Client) -> Told:
    """Return the agent's nodes, in the order of its inventory, and the newest check of each by its name.

    Raises:
        StateError: the agent is gone.
    """
    return client.get("/v1/nodes"), {check["node"]: check for check in client.get("/v1/health")}


def listing(client: Client) -> dict[str, Any]:
    """Return what `ugro nodes ls` shows: the agent's inventory, without what only its owner needs, and the states.

    Raises:
        StateError: the agent is gone.
    """
    agent = client.get("/v1/agent")
    keys = ("address", "role", "connection", "user", "port", "gpu", "gpu_count", "vram_gb", "slots")
    nodes = [
        {"name": entry["node"], **{key: entry[key] for key in keys}, "state": state(entry), "drain": drained(entry)}
        for entry in client.get("/v1/nodes")
    ]
    return {"cluster": agent["cluster"], "source": agent["inventory"], "nodes": nodes}


def verdict_of(found: Told) -> Verdict:
    """Return what the agent knows as a verdict; a node it has not looked at yet is a warning."""
    nodes, checks = found
    findings: list[Finding] = []
    for entry in nodes:
        name, own = entry["node"], _findings(entry, checks)
        if entry["health"] == "unknown":
            own = [Finding(name, "ssh_reachable", "warning", "the agent has not looked at it yet", "ask again soon")]
        findings += own
    return Verdict(tuple(findings), {entry["node"]: entry["summary"] or entry["health"] for entry in nodes})


def as_json(found: Told) -> dict[str, Any]:
    """Return the same keys as `ugro health --json` has elsewhere, and of each check when it was (`at`)."""
    nodes, checks = found
    data = verdict_of(found).as_json()
    for entry in nodes:
        check = checks.get(entry["node"], {})
        data["nodes"][entry["node"]] |= {
            "state": state(entry),
            "drain": drained(entry),
            "at": check.get("at"),
            "latency_ms": check.get("latency_ms"),
        }
    return data


def lines(found: Told) -> list[str]:
    """Return the lines of the verdict, and one for each node that is drained."""
    return verdict_of(found).lines() + [
        f"- {entry['node']}: {shown(row_of(entry), busy(entry), 'healthy')}, {drained(entry)}"
        for entry in found[0]
        if entry["drain"]
    ]


def as_data(found: Told) -> dict[str, Any]:
    """Return what `ugro health --watch` shows, see `ugro_py.health.live.as_data`."""
    nodes, checks = found
    found_nodes = {}
    for entry in nodes:
        own = _findings(entry, checks)
        check = checks.get(entry["node"], {})
        found_nodes[entry["node"]] = {
            "state": state(entry),
            "severity": check.get("severity", "ok"),
            "reason": entry["reason"],
            "summary": entry["summary"],
            "latency_ms": check.get("latency_ms"),
            "drain": drained(entry),
            "problems": [_item(item) for item in own if item.severity != "ok" and catalog.counts(item.check)],
            "findings": [_item(item) for item in own],
        }
    return {"at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "nodes": found_nodes}


def state(entry: Mapping[str, Any]) -> str:
    """Return the one word for the state of a node as the agent lists it."""
    return shown(row_of(entry), busy(entry))


def drained(entry: Mapping[str, Any]) -> str:
    """Return by whom and why a node is drained; "" for one that is not."""
    return why(row_of(entry))


def _findings(entry: Mapping[str, Any], checks: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    name = entry["node"]
    found = [from_item(name, item) for item in checks.get(name, {}).get("findings", ())]
    if entry["health"] == "unreachable" and not any(item.check == "ssh_reachable" for item in found):
        # It answers again, and not yet often enough to count.
        found.append(unreachable(name, entry["reason"] or "no answer"))
    return found


def _item(finding: Finding) -> dict[str, Any]:
    return {key: getattr(finding, key) for key in ("check", "severity", "text", "remedy", "value")}
