"""What the sweeper finds of one node, by its newest readings and those of the other nodes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.ugro.cluster.plugins.module_utils import health as readings

from ugro_py import verify
from ugro_py.cluster import Cluster
from ugro_py.compare import Finding, compare
from ugro_py.health import catalog

STALE_REPORT_S = 35.0
"""Readings older than this are a finding: the node lives and does not manage to read itself."""


class Memory:
    """The GPUs a node has shown since it booted: one that is not shown any more has been lost."""

    def __init__(self) -> None:
        self._boot = ""
        self._known: dict[str, Any] = {}

    def vanished(self, report: Mapping[str, Any]) -> list[tuple[Any, str]]:
        """Return (index, UUID) of the GPUs that were there in this boot and have no entry now."""
        boot, cards = report["node"]["boot_id"], report["gpu"]["gpus"]
        if boot != self._boot:
            self._boot, self._known = boot, {}
        if report["gpu"]["error"] or any(card["lost"] and not card["uuid"] for card in cards):
            return []  # those are told of by their own findings
        shown = {card["uuid"]: card["index"] for card in cards if card["uuid"]}
        self._known |= shown
        return [(index, uuid) for uuid, index in self._known.items() if uuid not in shown]


def findings_of(
    cluster: Cluster,
    name: str,
    reports: Mapping[str, dict[str, Any]],
    *,
    memory: Memory,
    held: Iterable[str] = (),
    since: float = 0.0,
) -> list[Finding]:
    """Return what is wrong and well with a node that answered.

    Args:
        cluster: for what the inventory says.
        name: the node.
        reports: the newest readings of all nodes that answered.
        memory: the node's own.
        held: UUIDs of GPUs that jobs hold.
        since: Unix time of the node before which Xid errors do not count.
    """
    node = cluster.node(name)
    limits = cluster.settings.health_thresholds
    report = own_share(cluster, name, without_ours(reports[name], held))
    found = [*verify.judge([node], {name: report}, limits, {name: since}).findings]
    for index, uuid in memory.vanished(report):
        remedy = f"look at `dmesg`, reboot {name}, and check the card's power and seat"
        found.append(
            Finding(name, "gpu_lost", "critical", f"GPU {index} ({uuid}) is not there any more", remedy, index)
        )
    between = compare(reports, limits)
    return found + [item for item in between if item.node == name and item.check != "network_latency_ms"]


def without_ours(report: dict[str, Any], held: Iterable[str]) -> dict[str, Any]:
    """Return a report without the processes on GPUs that jobs hold: even those we may not look into are ours."""
    holding = set(held)
    cards = [{**card, "processes": []} if card["uuid"] in holding else card for card in report["gpu"]["gpus"]]
    return {**report, "gpu": {**report["gpu"], "gpus": cards}}


def own_share(cluster: Cluster, name: str, report: dict[str, Any]) -> dict[str, Any]:
    """Return a report with the GPUs of this node alone: logical nodes of one machine share them by turns."""
    local = [node.name for node in cluster.nodes if node.connection == "local"]
    return verify.share(report, local.index(name), len(local)) if name in local else report


def unusable(
    cluster: Cluster, name: str, report: dict[str, Any], counting: Iterable[Finding], slots: Iterable[str], since: float
) -> dict[str, str]:
    """Return what no job may be given of a node: UUID of a GPU or CPU slot -> why.

    Args:
        cluster: for the thresholds.
        name: the node.
        report: its newest readings.
        counting: its findings that count (were seen often enough).
        slots: the UUIDs of all it has.
        since: Unix time of the node before which Xid errors do not count.
    """
    blocking = next((item for item in counting if catalog.blocks(item.check, item.severity)), None)
    found = dict.fromkeys(slots, blocking.line) if blocking else {}
    share = own_share(cluster, name, report)
    limits = cluster.settings.health_thresholds
    sick: dict[str, str] = readings.unusable(share["gpu"], share["node"], limits, name, since)
    return found | sick


def stale(name: str, age_s: float, said: str) -> Finding:
    """Return the finding for a node that lives and gives no readings."""
    text = f"its readings are {age_s:.0f} s old" + (f": {said}" if said else "")
    return Finding(name, "ssh_reachable", "warning", text, f"see with `top` and `dmesg` what holds {name} up")


def problem(finding: Finding) -> str:
    """Return what makes two findings the same problem: not their figures, but their check, and which GPU or Xid."""
    return f"{finding.check}:{finding.value}" if finding.check in ("gpu_lost", "gpu_xid") else finding.check
