# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Findings from the readings of a node's GPUs, and which of them no job may be given. Pure functions."""

from __future__ import annotations

import time

from . import xid
from .judging import CRITICAL, OK, WARNING, above, finding

TYPE_CHECKING = False  # importing typing costs a node 3 ms
if TYPE_CHECKING:
    from typing import Any, Dict, List, Mapping

# Being slowed down at the power limit (sw_power_cap) is how a GPU at full load runs; these are not.
_HARMFUL_THROTTLING = ("hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown")


def gpu_findings(
    report: Mapping[str, Any], limits: Mapping[str, float], expected: Mapping[str, Any], name: str, since: float
) -> List[Dict[str, Any]]:
    """Return what the readings of a node's GPUs say; Xid errors before `since` (Unix time) are left out."""
    found = []
    error = report["error"]
    if error:
        found.append(_driver(error, name))
    gpus = report["gpus"]
    for gpu in gpus:
        found += _lost(gpu, name) if gpu["lost"] else _one_gpu(gpu, limits, expected, name)
    found += _xid_findings(report, name, since)
    visible = sum(not gpu["lost"] for gpu in gpus)
    wanted = expected.get("gpu_count")
    if error and not gpus:
        return found  # how many there are is not known
    if wanted is not None and len(gpus) < wanted:
        source = "NVML" if report["source"] != "nvidia-smi" else "nvidia-smi"
        missing = ", ".join(str(index) for index in range(len(gpus), wanted))
        driver = "driver %s" % report["driver"] if report["driver"] else "no driver"
        text = "GPU %s not visible to %s (%s)" % (missing, source, driver)
        found.append(finding("gpu_available", CRITICAL, text, "run `ugro check %s --deep`" % name, visible))
    elif wanted is not None and visible > wanted:
        text = "%d GPUs are there, the inventory says %d" % (visible, wanted)
        found.append(finding("gpu_available", WARNING, text, "correct ugro_gpu_count in the inventory", visible))
    elif visible == len(gpus):
        text = "%d GPU%s" % (visible, "" if visible == 1 else "s") if visible else "no GPU: it trains on CPU slots"
        found.append(finding("gpu_available", OK, text, value=visible))
    return found


def unusable_gpus(report: Mapping[str, Any], limits: Mapping[str, float], name: str, since: float) -> Dict[str, str]:
    """Return the GPUs that no job may be given: UUID -> why, in one line. A lost one may have no UUID any more."""
    sick = {
        item["pci"]: "Xid %d, %s" % (item["code"], xid.meaning(item["code"])[1])
        for item in xid.newest(report.get("xids") or (), since)
        if xid.meaning(item["code"])[0] == CRITICAL
    }
    found = {}
    for gpu in report["gpus"]:
        reason = None
        foreign = _foreign(gpu)
        if gpu["lost"]:
            reason = "is lost"
        elif gpu.get("pci") in sick:
            reason = "is sick (%s)" % sick[gpu["pci"]]
        elif (gpu["ecc"] or {}).get("uncorrected"):
            reason = "has uncorrected memory errors"
        elif gpu["temperature_c"] is not None and gpu["temperature_c"] >= limits["temperature_c_critical"]:
            reason = "is at %g °C" % gpu["temperature_c"]
        elif foreign:
            reason = "is used by %s (%s, PID %d)" % (
                foreign[0]["user"] or "an unknown user",
                foreign[0]["name"] or "unknown program",
                foreign[0]["pid"],
            )
        if reason and gpu["uuid"]:
            found[gpu["uuid"]] = "GPU %s of %s %s" % (gpu["index"], name, reason)
    return found


def _foreign(gpu: Mapping[str, Any]) -> List[Dict[str, Any]]:
    """Return the compute processes on a GPU that belong to no job of UGRO."""
    return [item for item in gpu["processes"] if item["type"] == "compute" and not item["job"]]


def _xid_findings(report: Mapping[str, Any], name: str, since: float) -> List[Dict[str, Any]]:
    found = []
    index = {gpu.get("pci"): gpu["index"] for gpu in report["gpus"] if gpu.get("pci")}
    for item in xid.newest(report.get("xids") or (), since):
        severity, what, remedy = xid.meaning(item["code"])
        if severity == OK:
            continue
        gpu = "GPU %s" % index[item["pci"]] if item["pci"] in index else "the GPU at %s" % item["pci"]
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(item["at"]))
        often = " (%d times)" % item["count"] if item["count"] > 1 else ""
        text = "%s reported Xid %d, %s, at %s UTC%s" % (gpu, item["code"], what, at, often)
        value = "%d@%s" % (item["code"], item["pci"])
        found.append(finding("gpu_xid", severity, text, remedy % name if "%s" in remedy else remedy, value))
    return found


def _driver(error: Mapping[str, Any], name: str) -> Dict[str, Any]:
    if error["kind"] == "driver_library_mismatch":
        text = "the NVIDIA library was upgraded and the loaded driver was not: reboot needed"
        return finding("gpu_driver", CRITICAL, text, "reboot %s" % name, error["kind"])
    remedy = {
        "no_driver": "install the NVIDIA driver, or load it with `modprobe nvidia`",
        "timeout": "look for Xid errors with `dmesg`, then reboot %s" % name,
    }.get(error["kind"], "run `nvidia-smi` on %s" % name)
    return finding("gpu_driver", CRITICAL, error["text"], remedy, error["kind"])


def _lost(gpu: Mapping[str, Any], name: str) -> List[Dict[str, Any]]:
    text = "GPU %s is lost (%s)" % (gpu["index"], gpu["error"] or "no answer")
    remedy = "look for Xid errors with `dmesg`, reboot %s, and check the card's power and seat" % name
    return [finding("gpu_lost", CRITICAL, text, remedy, gpu["index"])]


def _one_gpu(
    gpu: Mapping[str, Any], limits: Mapping[str, float], expected: Mapping[str, Any], name: str
) -> List[Dict[str, Any]]:
    found = []
    label = "GPU %s" % gpu["index"]
    vram, model = expected.get("vram_gb"), expected.get("gpu")
    if vram and gpu["vram_total_gb"] is not None and gpu["vram_total_gb"] < 0.9 * vram:
        text = "%s has %.1f GB of memory, the inventory says %g" % (label, gpu["vram_total_gb"], vram)
        found.append(finding("gpu_model", WARNING, text, "correct ugro_vram_gb in the inventory", gpu["vram_total_gb"]))
    if model and gpu["name"] and model.lower() not in gpu["name"].lower():
        text = "%s is a %s, the inventory says %s" % (label, gpu["name"], model)
        found.append(finding("gpu_model", WARNING, text, "correct ugro_gpu in the inventory", gpu["name"]))
    heat = gpu["temperature_c"]
    if heat is not None:
        severity = above(heat, limits["temperature_c_warning"], limits["temperature_c_critical"])
        text = "%s is at %g °C" % (label, heat)
        remedy = "" if severity == OK else "check its fans and the air flow of %s" % name
        found.append(finding("gpu_temperature", severity, text, remedy, heat))
    throttling = [reason for reason in gpu["throttle_reasons"] if reason in _HARMFUL_THROTTLING]
    if throttling:
        text = "%s is slowed down (%s)" % (label, ", ".join(throttling))
        found.append(finding("gpu_throttling", WARNING, text, "check its cooling and power supply", throttling))
    ecc = gpu["ecc"] or {}
    if ecc.get("uncorrected"):
        text = "%s has %d uncorrected memory errors" % (label, ecc["uncorrected"])
        remedy = "stop its jobs and reboot %s; replace the card if they come back" % name
        found.append(finding("gpu_ecc", CRITICAL, text, remedy, ecc["uncorrected"]))
    elif (ecc.get("corrected") or 0) >= limits["ecc_corrected_warning"]:
        text = "%s has %d corrected memory errors" % (label, ecc["corrected"])
        found.append(finding("gpu_ecc", WARNING, text, "watch whether they grow", ecc["corrected"]))
    foreign = _foreign(gpu)
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
        found.append(finding("gpu_processes", WARNING, text, remedy, [item["pid"] for item in foreign]))
    return found
