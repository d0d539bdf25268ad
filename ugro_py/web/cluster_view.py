"""The cluster as its page shows it: what jobs tell of their GPUs, and of all else what the last health sweep read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from ugro_py.api.view import AgentView
from ugro_py.health.findings import own_share
from ugro_py.now import snapshot
from ugro_py.pace import finite
from ugro_py.web.live import Look

_NODES_SHOWN = 6
_OF_SWEEP = {"util": "util_percent", "mem_used_gb": "vram_used_gb", "temperature_c": "temperature_c",
             "power_w": "power_w", "vram_gb": "vram_total_gb"}  # fmt: skip


def now(look: Look) -> dict[str, Any]:
    """Return the nodes and jobs of this moment (`ugro_py.now.snapshot`), the nodes with what the sweep read of them."""
    return look.shared.get("now", lambda: _now(look.agent))


def _now(agent: AgentView) -> dict[str, Any]:
    found = snapshot(agent.store, agent.cluster)
    reports = agent.readings()
    known = {node.name for node in agent.cluster.nodes}
    for entry in found["nodes"]:
        name = entry["node"]
        report = own_share(agent.cluster, name, dict(reports[name])) if name in reports and name in known else {}
        _add(entry, report)
    return found


def _add(entry: dict[str, Any], report: Mapping[str, Any]) -> None:
    """Add to a node what its job's supervisor does not tell, or where none runs: CPU slots have no figures at all."""
    node = report.get("node") or {}
    memory, load, cpus = node.get("memory") or {}, node.get("load") or [None], finite(node.get("cpu_count"))
    total, available = finite(memory.get("total_gb")), finite(memory.get("available_gb"))
    entry["mem_total_gb"] = total
    if entry["mem_used_gb"] is None and total is not None and available is not None:
        entry["mem_used_gb"] = total - available
    one = finite(load[0])
    if entry["cpu_percent"] is None and one is not None and cpus:
        entry["cpu_percent"] = min(100.0, 100.0 * one / cpus)
    disks = [disk for disk in node.get("disks") or () if finite(disk.get("free_gb")) is not None]
    entry["disk_free_gb"] = min((float(disk["free_gb"]) for disk in disks), default=None)
    by_uuid = {str(gpu.get("uuid")): gpu for gpu in (report.get("gpu") or {}).get("gpus") or ()}
    for gpu in entry["gpus"]:
        reading = by_uuid.get(gpu["uuid"], {})
        for key, name in _OF_SWEEP.items():
            if gpu[key] is None:
                gpu[key] = finite(reading.get(name))


def groups(gpus: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the GPUs of a node, those together that follow each other and are alike: same card, same job."""
    found = []
    for (name, job, unusable), same in groupby(gpus, lambda gpu: (gpu["name"], gpu["job"], gpu.get("unusable"))):
        mine = list(same)
        found.append({"name": name, "job": job, "unusable": unusable, "gpus": mine,
                      "indexes": _span([gpu["index"] for gpu in mine])})  # fmt: skip
    return found


def places(gpus: Sequence[str]) -> str:
    """Return where a job runs, of `NODE:INDEX`, as `gpu1:0-7, gpu2:0`; of many nodes the first few."""
    by_node: dict[str, list[int]] = {}
    for gpu in gpus:
        node, _, index = gpu.rpartition(":")
        by_node.setdefault(node, []).append(int(index))
    shown = [f"{node}:{_span(indexes)}" for node, indexes in by_node.items()]
    if len(shown) <= _NODES_SHOWN:
        return ", ".join(shown)
    return f"{', '.join(shown[: _NODES_SHOWN // 2])} and {len(shown) - _NODES_SHOWN // 2} more nodes, {len(gpus)} GPUs"


def _span(indexes: Sequence[int]) -> str:
    """Return whole numbers in order as `0-3,5`."""
    runs: list[list[int]] = []
    for index in sorted(indexes):
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def summary(nodes: Sequence[Mapping[str, Any]], jobs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the figures above the nodes."""
    gpus = [gpu for node in nodes for gpu in node["gpus"]]
    utils = [gpu["util"] for gpu in gpus if gpu["util"] is not None]
    return {
        "nodes": len(nodes),
        "healthy": sum(node["state"] == "healthy" for node in nodes),
        "looked_at": any(node["state"] != "unknown" for node in nodes),
        "gpus": len(gpus),
        "busy": sum(gpu["job"] is not None for gpu in gpus),
        "util": sum(utils) / len(utils) if utils else None,
        "running": sum(job["status"] in ("running", "starting", "collecting") for job in jobs),
        "waiting": sum(job["status"] == "pending" for job in jobs),
    }
