# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Findings from the readings of one node: what is well, what is not, and what to do about it. Pure functions."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Optional, Sequence

from .gpu_findings import gpu_findings, unusable_gpus
from .judging import CRITICAL, DEFAULT_THRESHOLDS, OK, ORDER, WARNING, below, finding

__all__ = ["CRITICAL", "DEFAULT_THRESHOLDS", "OK", "WARNING", "findings", "line", "summary", "unusable", "worst"]


def findings(
    gpu_report: Mapping[str, Any],
    node_report: Mapping[str, Any],
    thresholds: Optional[Mapping[str, Any]] = None,
    expected: Optional[Mapping[str, Any]] = None,
    since: float = 0.0,
) -> List[Dict[str, Any]]:
    """Return what the readings of a node say, good and bad.

    Args:
        gpu_report: from `gpu.read_gpus`.
        node_report: from `node.read_node`.
        thresholds: replaces values of `DEFAULT_THRESHOLDS`; None values are ignored.
        expected: what the inventory says, each optional: ``name``, ``connection`` (``ssh`` or ``local``),
            ``gpu_count``, ``vram_gb`` (GB per GPU), ``gpu`` (part of the model name).
        since: Unix time of the node before which Xid errors do not count, for instance when it was last resumed.

    Returns:
        A list of ``{check, severity, text, remedy, value}``; severity is ``ok``, ``warning`` or ``critical``, remedy
        is empty when there is nothing to do, value is the number or text that was judged.
    """
    limits = limits_of(thresholds)
    wanted = dict(expected or {})
    name = str(wanted.get("name") or node_report.get("name") or node_report.get("hostname") or "this node")
    found = gpu_findings(gpu_report, limits, wanted, name, oldest_xid(node_report, limits, since))
    found += _torch_findings(gpu_report, node_report, name)
    found += _resource_findings(node_report, limits, name)
    found += _network_findings(node_report, wanted, name)
    return found


def limits_of(thresholds: Optional[Mapping[str, Any]]) -> Dict[str, float]:
    """Return `DEFAULT_THRESHOLDS` with the values of `thresholds` in place of some; None values are ignored."""
    limits = dict(DEFAULT_THRESHOLDS)
    limits.update({key: float(value) for key, value in (thresholds or {}).items() if value is not None})
    return limits


def oldest_xid(node_report: Mapping[str, Any], limits: Mapping[str, float], since: float) -> float:
    """Return from which Unix time of the node on an Xid error counts."""
    return max(since, float(node_report.get("clock") or 0.0) - 3600 * limits["xid_hours"])


def unusable(
    gpu_report: Mapping[str, Any],
    node_report: Mapping[str, Any],
    thresholds: Optional[Mapping[str, Any]] = None,
    name: Optional[str] = None,
    since: float = 0.0,
) -> Dict[str, str]:
    """Return the GPUs of a node that no job may be given: UUID -> why. Arguments as for `findings`."""
    limits = limits_of(thresholds)
    name = str(name or node_report.get("name") or node_report.get("hostname") or "this node")
    return unusable_gpus(gpu_report, limits, name, oldest_xid(node_report, limits, since))


def worst(found: Sequence[Mapping[str, Any]]) -> str:
    """Return the highest severity among findings."""
    return max((str(item["severity"]) for item in found), key=ORDER.index, default=OK)


def line(name: str, finding: Mapping[str, Any]) -> str:
    """Return a finding as the one line a person reads: node, what it is, what to do."""
    text = "%s: %s" % (name, finding["text"])
    return "%s; %s" % (text, finding["remedy"]) if finding.get("remedy") else text


def summary(gpu_report: Mapping[str, Any], node_report: Mapping[str, Any]) -> str:
    """Return what the node trains with: "RTX 5070 Ti (12GB)", "2 x RTX 4070 (8GB)" or "no GPU, 4 CPUs"."""
    kinds: Dict[str, int] = {}
    for gpu in gpu_report.get("gpus", ()):
        if not gpu["lost"]:
            label = _label(gpu)
            kinds[label] = kinds.get(label, 0) + 1
    if not kinds:
        cpus = node_report.get("cpu_count") or 0
        return "no GPU, %d CPU%s" % (cpus, "" if cpus == 1 else "s")
    return ", ".join(label if count == 1 else "%d x %s" % (count, label) for label, count in kinds.items())


def _label(gpu: Mapping[str, Any]) -> str:
    model = re.sub(r"^(NVIDIA|GeForce|Tesla|\s)+(?=\S)", "", gpu["name"] or "") or "unknown GPU"
    return model if gpu["vram_total_gb"] is None else "%s (%.0fGB)" % (model, gpu["vram_total_gb"])


def _torch_findings(gpu_report: Mapping[str, Any], node: Mapping[str, Any], name: str) -> List[Dict[str, Any]]:
    python = node.get("train_python")
    if not python:
        return []
    bootstrap = "run `ugro bootstrap` or set ugro_python in the inventory"
    if python["error"]:
        return [finding("pytorch_ready", CRITICAL, "training Python: %s" % python["error"], bootstrap)]
    if not python["torch"]:
        return [finding("pytorch_ready", CRITICAL, "%s has no torch" % python["path"], bootstrap)]
    has_gpu = any(not gpu["lost"] for gpu in gpu_report["gpus"])
    text = "torch %s" % python["torch"]
    if has_gpu and not python["cuda"]:
        text += " is built without CUDA, so it cannot use the GPU"
        return [finding("pytorch_ready", CRITICAL, text, bootstrap, python["torch"])]
    driver_cuda = gpu_report["cuda"]
    # Within a major version an older driver runs newer CUDA (minor version compatibility).
    if has_gpu and driver_cuda and int(python["cuda"].split(".")[0]) > int(driver_cuda.split(".")[0]):
        text += " is built for CUDA %s, the driver (%s) supports %s" % (
            python["cuda"],
            gpu_report["driver"],
            driver_cuda,
        )
        remedy = "update the NVIDIA driver of %s, or install torch for CUDA %s" % (name, driver_cuda.split(".")[0])
        return [finding("pytorch_ready", CRITICAL, text, remedy, python["torch"])]
    return [finding("pytorch_ready", OK, text, value=python["torch"])]


def _resource_findings(node: Mapping[str, Any], limits: Mapping[str, float], name: str) -> List[Dict[str, Any]]:
    found = []
    for disk in node["disks"]:
        if disk["free_gb"] is None:
            text = "file system of %s: %s" % (disk["path"], disk["error"])
            found.append(finding("disk_space_gb", CRITICAL, text, "check its mounts"))
            continue
        severity = below(disk["free_gb"], limits["disk_free_gb_warning"], limits["disk_free_gb_critical"])
        text = "%.1f GB free at %s" % (disk["free_gb"], disk["path"])
        remedy = "" if severity == OK else "free space there, or set ugro_node_dir to a larger file system"
        found.append(finding("disk_space_gb", severity, text, remedy, disk["free_gb"]))
    memory = node["memory"]["available_gb"]
    if memory is not None:
        severity = below(memory, limits["memory_available_gb_warning"], limits["memory_available_gb_critical"])
        remedy = "" if severity == OK else "end programs on %s that are not needed" % name
        found.append(finding("memory_available_gb", severity, "%.1f GB of memory available" % memory, remedy, memory))
    load = round(node["load"][1] / max(1, node["cpu_count"]), 2)
    if load >= limits["load_per_cpu_warning"]:
        text = "load of %g per CPU over 5 minutes" % load
        found.append(finding("load_per_cpu", WARNING, text, "see with `top` what keeps %s busy" % name, load))
    return found


def _network_findings(node: Mapping[str, Any], expected: Mapping[str, Any], name: str) -> List[Dict[str, Any]]:
    found = []
    resolver = node["resolver"]
    if resolver["error"]:
        text = "its own name %s does not resolve (%s)" % (resolver["fqdn"] or resolver["hostname"], resolver["error"])
        remedy = "add `%s %s` to /etc/hosts there" % (node.get("address") or "<its address>", resolver["hostname"])
        found.append(finding("host_name", CRITICAL, text, remedy, resolver["hostname"]))
    else:
        # 127.0.1.1 is Debian's habit, and harmless: torchrun is always told the cluster address.
        text = "its own name resolves to %s" % ", ".join(resolver["addresses"])
        found.append(finding("host_name", OK, text, value=resolver["addresses"]))
    address = node.get("address")
    if address:
        held = next((item for item in node["interfaces"] if item["name"] == node["interface"]), None)
        remedy = "set ansible_host to an address of %s that the other nodes reach" % name
        if held is None:
            found.append(finding("interface", CRITICAL, "no interface holds %s" % address, remedy, None))
        elif not held["up"]:
            text = "%s, which holds %s, is down" % (held["name"], address)
            found.append(finding("interface", CRITICAL, text, "check its cable", held["name"]))
        else:
            found.append(finding("interface", OK, "%s holds %s" % (held["name"], address), value=held["name"]))
    if expected.get("connection", "ssh") == "ssh":
        if node["rsync"] is None:
            remedy = "install rsync on %s" % name
            found.append(finding("rsync", CRITICAL, "rsync is missing", remedy, None))
        if node["unit_manager"] == "none":
            text = "no systemd manager for %s: a job's processes have no cgroup of their own" % node["user"]
            found.append(
                finding("unit_manager", WARNING, text, "run `loginctl enable-linger %s`" % node["user"], "none")
            )
    return found
