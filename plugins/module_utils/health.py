# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Findings from the readings of one node: what is well, what is not, and what to do about it. Pure functions."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Optional, Sequence

OK, WARNING, CRITICAL = "ok", "warning", "critical"
_ORDER = (OK, WARNING, CRITICAL)

# What counts as too much or too little. GB are 2**30 bytes.
DEFAULT_THRESHOLDS: Dict[str, float] = {
    "disk_free_gb_warning": 10.0,  # a few checkpoints of a small model
    "disk_free_gb_critical": 1.0,  # not even one
    "memory_available_gb_warning": 2.0,
    "memory_available_gb_critical": 0.5,  # importing torch alone takes most of this
    "temperature_c_warning": 85.0,  # where consumer GPUs begin to slow down
    "temperature_c_critical": 95.0,  # where they are about to switch off
    "ecc_corrected_warning": 1000.0,  # corrected errors since the driver was loaded
    "load_per_cpu_warning": 4.0,  # 5-minute load average per CPU
}

# Being slowed down at the power limit (sw_power_cap) is how a GPU at full load runs; these are not.
_HARMFUL_THROTTLING = ("hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown")


def findings(
    gpu_report: Mapping[str, Any],
    node_report: Mapping[str, Any],
    thresholds: Optional[Mapping[str, Any]] = None,
    expected: Optional[Mapping[str, Any]] = None,
) -> List[Dict[str, Any]]:
    """Return what the readings of a node say, good and bad.

    Args:
        gpu_report: from `gpu.read_gpus`.
        node_report: from `node.read_node`.
        thresholds: replaces values of `DEFAULT_THRESHOLDS`; None values are ignored.
        expected: what the inventory says, each optional: ``name``, ``connection`` (``ssh`` or ``local``),
            ``gpu_count``, ``vram_gb`` (GB per GPU), ``gpu`` (part of the model name).

    Returns:
        A list of ``{check, severity, text, remedy, value}``; severity is ``ok``, ``warning`` or ``critical``, remedy
        is empty when there is nothing to do, value is the number or text that was judged.
    """
    limits = dict(DEFAULT_THRESHOLDS)
    limits.update({key: float(value) for key, value in (thresholds or {}).items() if value is not None})
    wanted = dict(expected or {})
    name = str(wanted.get("name") or node_report.get("name") or node_report.get("hostname") or "this node")
    found = _gpu_findings(gpu_report, limits, wanted, name)
    found += _torch_findings(gpu_report, node_report, name)
    found += _resource_findings(node_report, limits, name)
    found += _network_findings(node_report, wanted, name)
    return found


def worst(found: Sequence[Mapping[str, Any]]) -> str:
    """Return the highest severity among findings."""
    return max((str(item["severity"]) for item in found), key=_ORDER.index, default=OK)


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


def _finding(check: str, severity: str, text: str, remedy: str = "", value: Any = None) -> Dict[str, Any]:
    return {"check": check, "severity": severity, "text": text, "remedy": remedy, "value": value}


def _gpu_findings(
    report: Mapping[str, Any], limits: Mapping[str, float], expected: Mapping[str, Any], name: str
) -> List[Dict[str, Any]]:
    found = []
    error = report["error"]
    if error:
        found.append(_driver_finding(error, name))
    gpus = report["gpus"]
    for gpu in gpus:
        found += _lost(gpu, name) if gpu["lost"] else _one_gpu(gpu, limits, expected, name)
    visible = sum(not gpu["lost"] for gpu in gpus)
    wanted = expected.get("gpu_count")
    if error and not gpus:
        return found  # how many there are is not known
    if wanted is not None and len(gpus) < wanted:
        source = "NVML" if report["source"] != "nvidia-smi" else "nvidia-smi"
        missing = ", ".join(str(index) for index in range(len(gpus), wanted))
        driver = "driver %s" % report["driver"] if report["driver"] else "no driver"
        text = "GPU %s not visible to %s (%s)" % (missing, source, driver)
        found.append(_finding("gpu_available", CRITICAL, text, "run `ugro check %s --deep`" % name, visible))
    elif wanted is not None and visible > wanted:
        text = "%d GPUs are there, the inventory says %d" % (visible, wanted)
        found.append(_finding("gpu_available", WARNING, text, "correct ugro_gpu_count in the inventory", visible))
    elif visible == len(gpus):
        text = "%d GPU%s" % (visible, "" if visible == 1 else "s") if visible else "no GPU: it trains on CPU slots"
        found.append(_finding("gpu_available", OK, text, value=visible))
    return found


def _driver_finding(error: Mapping[str, Any], name: str) -> Dict[str, Any]:
    if error["kind"] == "driver_library_mismatch":
        text = "the NVIDIA library was upgraded and the loaded driver was not: reboot needed"
        return _finding("gpu_driver", CRITICAL, text, "reboot %s" % name, error["kind"])
    remedy = {
        "no_driver": "install the NVIDIA driver, or load it with `modprobe nvidia`",
        "timeout": "look for Xid errors with `dmesg`, then reboot %s" % name,
    }.get(error["kind"], "run `nvidia-smi` on %s" % name)
    return _finding("gpu_driver", CRITICAL, error["text"], remedy, error["kind"])


def _lost(gpu: Mapping[str, Any], name: str) -> List[Dict[str, Any]]:
    text = "GPU %s is lost (%s)" % (gpu["index"], gpu["error"] or "no answer")
    remedy = "look for Xid errors with `dmesg`, reboot %s, and check the card's power and seat" % name
    return [_finding("gpu_lost", CRITICAL, text, remedy, gpu["index"])]


def _one_gpu(
    gpu: Mapping[str, Any], limits: Mapping[str, float], expected: Mapping[str, Any], name: str
) -> List[Dict[str, Any]]:
    found = []
    label = "GPU %s" % gpu["index"]
    vram, model = expected.get("vram_gb"), expected.get("gpu")
    if vram and gpu["vram_total_gb"] is not None and gpu["vram_total_gb"] < 0.9 * vram:
        text = "%s has %.1f GB of memory, the inventory says %g" % (label, gpu["vram_total_gb"], vram)
        found.append(
            _finding("gpu_model", WARNING, text, "correct ugro_vram_gb in the inventory", gpu["vram_total_gb"])
        )
    if model and gpu["name"] and model.lower() not in gpu["name"].lower():
        text = "%s is a %s, the inventory says %s" % (label, gpu["name"], model)
        found.append(_finding("gpu_model", WARNING, text, "correct ugro_gpu in the inventory", gpu["name"]))
    heat = gpu["temperature_c"]
    if heat is not None:
        severity = _above(heat, limits["temperature_c_warning"], limits["temperature_c_critical"])
        text = "%s is at %g °C" % (label, heat)
        remedy = "" if severity == OK else "check its fans and the air flow of %s" % name
        found.append(_finding("gpu_temperature", severity, text, remedy, heat))
    throttling = [reason for reason in gpu["throttle_reasons"] if reason in _HARMFUL_THROTTLING]
    if throttling:
        text = "%s is slowed down (%s)" % (label, ", ".join(throttling))
        found.append(_finding("gpu_throttling", WARNING, text, "check its cooling and power supply", throttling))
    ecc = gpu["ecc"] or {}
    if ecc.get("uncorrected"):
        text = "%s has %d uncorrected memory errors" % (label, ecc["uncorrected"])
        remedy = "stop its jobs and reboot %s; replace the card if they come back" % name
        found.append(_finding("gpu_ecc", CRITICAL, text, remedy, ecc["uncorrected"]))
    elif (ecc.get("corrected") or 0) >= limits["ecc_corrected_warning"]:
        text = "%s has %d corrected memory errors" % (label, ecc["corrected"])
        found.append(_finding("gpu_ecc", WARNING, text, "watch whether they grow", ecc["corrected"]))
    foreign = [item for item in gpu["processes"] if item["type"] == "compute" and not item["job"]]
    if foreign:
        users = ", ".join(
            "%s (%s, PID %d%s)"
            % (
                item["user"] or "an unknown user",
                item["name"] or "unknown program",
                item["pid"],
                "" if item["mem_used_gb"] is None else ", %.1f GB" % item["mem_used_gb"],
            )
            for item in foreign
        )
        remedy = "wait for it, or leave the GPU out: `ugro launch --exclude %s:%s`" % (name, gpu["index"])
        text = "%s is used by %s" % (label, users)
        found.append(_finding("gpu_processes", WARNING, text, remedy, [item["pid"] for item in foreign]))
    return found


def _torch_findings(gpu_report: Mapping[str, Any], node: Mapping[str, Any], name: str) -> List[Dict[str, Any]]:
    python = node.get("train_python")
    if not python:
        return []
    bootstrap = "run `ugro bootstrap` or set ugro_python in the inventory"
    if python["error"]:
        return [_finding("pytorch_ready", CRITICAL, "training Python: %s" % python["error"], bootstrap)]
    if not python["torch"]:
        return [_finding("pytorch_ready", CRITICAL, "%s has no torch" % python["path"], bootstrap)]
    has_gpu = any(not gpu["lost"] for gpu in gpu_report["gpus"])
    text = "torch %s" % python["torch"]
    if has_gpu and not python["cuda"]:
        text += " is built without CUDA, so it cannot use the GPU"
        return [_finding("pytorch_ready", CRITICAL, text, bootstrap, python["torch"])]
    driver_cuda = gpu_report["cuda"]
    # Within a major version an older driver runs newer CUDA (minor version compatibility).
    if has_gpu and driver_cuda and int(python["cuda"].split(".")[0]) > int(driver_cuda.split(".")[0]):
        text += " is built for CUDA %s, the driver (%s) supports %s" % (
            python["cuda"],
            gpu_report["driver"],
            driver_cuda,
        )
        remedy = "update the NVIDIA driver of %s, or install torch for CUDA %s" % (name, driver_cuda.split(".")[0])
        return [_finding("pytorch_ready", CRITICAL, text, remedy, python["torch"])]
    return [_finding("pytorch_ready", OK, text, value=python["torch"])]


def _resource_findings(node: Mapping[str, Any], limits: Mapping[str, float], name: str) -> List[Dict[str, Any]]:
    found = []
    for disk in node["disks"]:
        if disk["free_gb"] is None:
            text = "file system of %s: %s" % (disk["path"], disk["error"])
            found.append(_finding("disk_space_gb", CRITICAL, text, "check its mounts"))
            continue
        severity = _below(disk["free_gb"], limits["disk_free_gb_warning"], limits["disk_free_gb_critical"])
        text = "%.1f GB free at %s" % (disk["free_gb"], disk["path"])
        remedy = "" if severity == OK else "free space there, or set ugro_node_dir to a larger file system"
        found.append(_finding("disk_space_gb", severity, text, remedy, disk["free_gb"]))
    memory = node["memory"]["available_gb"]
    if memory is not None:
        severity = _below(memory, limits["memory_available_gb_warning"], limits["memory_available_gb_critical"])
        remedy = "" if severity == OK else "end programs on %s that are not needed" % name
        found.append(_finding("memory_available_gb", severity, "%.1f GB of memory available" % memory, remedy, memory))
    load = round(node["load"][1] / max(1, node["cpu_count"]), 2)
    if load >= limits["load_per_cpu_warning"]:
        text = "load of %g per CPU over 5 minutes" % load
        found.append(_finding("load_per_cpu", WARNING, text, "see with `top` what keeps %s busy" % name, load))
    return found


def _network_findings(node: Mapping[str, Any], expected: Mapping[str, Any], name: str) -> List[Dict[str, Any]]:
    found = []
    resolver = node["resolver"]
    if resolver["error"]:
        text = "its own name %s does not resolve (%s)" % (resolver["fqdn"] or resolver["hostname"], resolver["error"])
        remedy = "add `%s %s` to /etc/hosts there" % (node.get("address") or "<its address>", resolver["hostname"])
        found.append(_finding("host_name", CRITICAL, text, remedy, resolver["hostname"]))
    else:
        # 127.0.1.1 is Debian's habit, and harmless: torchrun is always told the cluster address.
        text = "its own name resolves to %s" % ", ".join(resolver["addresses"])
        found.append(_finding("host_name", OK, text, value=resolver["addresses"]))
    address = node.get("address")
    if address:
        held = next((item for item in node["interfaces"] if item["name"] == node["interface"]), None)
        remedy = "set ansible_host to an address of %s that the other nodes reach" % name
        if held is None:
            found.append(_finding("interface", CRITICAL, "no interface holds %s" % address, remedy, None))
        elif not held["up"]:
            text = "%s, which holds %s, is down" % (held["name"], address)
            found.append(_finding("interface", CRITICAL, text, "check its cable", held["name"]))
        else:
            found.append(_finding("interface", OK, "%s holds %s" % (held["name"], address), value=held["name"]))
    if expected.get("connection", "ssh") == "ssh":
        if node["rsync"] is None:
            remedy = "install rsync on %s" % name
            found.append(_finding("rsync", CRITICAL, "rsync is missing", remedy, None))
        if node["unit_manager"] == "none":
            text = "no systemd manager for %s: a job's processes have no cgroup of their own" % node["user"]
            found.append(
                _finding("unit_manager", WARNING, text, "run `loginctl enable-linger %s`" % node["user"], "none")
            )
    return found


def _above(value: float, warning: float, critical: float) -> str:
    return CRITICAL if value >= critical else WARNING if value >= warning else OK


def _below(value: float, warning: float, critical: float) -> str:
    return CRITICAL if value < critical else WARNING if value < warning else OK
