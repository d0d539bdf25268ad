# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""The form of GPU readings, the same whichever program they come from.

A GB is 2**30 bytes: so a "12 GB" card reads as 12.0 (NVIDIA counts its memory in binary units too).
"""

from __future__ import annotations

import os
import pwd

TYPE_CHECKING = False  # importing typing costs a node 3 ms
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

_PROC = "/proc"
_UNIT = r"/ugro-([^/]+-[0-9]+-[^/]+)\.service"

# nvmlClocksEventReason* of nvml.h.
_THROTTLE_BITS = (
    (0x001, "gpu_idle"),
    (0x002, "applications_clocks_setting"),
    (0x004, "sw_power_cap"),
    (0x008, "hw_slowdown"),
    (0x010, "sync_boost"),
    (0x020, "sw_thermal_slowdown"),
    (0x040, "hw_thermal_slowdown"),
    (0x080, "hw_power_brake_slowdown"),
    (0x100, "display_clock_setting"),
)


def unknown(index: Optional[int]) -> Dict[str, Any]:
    """Return the reading of a GPU of which nothing is known but its index."""
    return {
        "index": index,
        "uuid": None,
        "pci": None,
        "name": None,
        "vram_total_gb": None,
        "vram_used_gb": None,
        "util_percent": None,
        "temperature_c": None,
        "power_w": None,
        "power_limit_w": None,
        "clock_sm_mhz": None,
        "clock_mem_mhz": None,
        "throttle_reasons": [],
        "ecc": None,
        "pcie": None,
        "mig": None,
        "processes": [],
        "lost": False,
        "error": None,
    }


def sample(gpu: Dict[str, Any]) -> Dict[str, Any]:
    """Return the part of a reading that a telemetry sample holds."""
    return {
        "uuid": gpu["uuid"],
        "index": gpu["index"],
        "util": gpu["util_percent"],
        "mem_used_gb": gpu["vram_used_gb"],
        "temperature_c": gpu["temperature_c"],
        "power_w": gpu["power_w"],
        "clock_sm_mhz": gpu["clock_sm_mhz"],
        # A GPU without work lowers its clock: that is no throttling.
        "throttle": [reason for reason in gpu["throttle_reasons"] if reason != "gpu_idle"],
        "pcie_generation": (gpu["pcie"] or {}).get("generation"),
        "pcie_width": (gpu["pcie"] or {}).get("width"),
    }


def text(value: Any) -> Optional[str]:
    """Return text; older nvidia-ml-py answers in bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def gb(size: Optional[float]) -> Optional[float]:
    """Return bytes as GB (2**30), to the third digit."""
    return None if size is None else round(size / 2**30, 3)


def scaled(value: Optional[float], divisor: int) -> Optional[float]:
    """Return ``value / divisor`` to one digit, or None."""
    return None if value is None else round(value / divisor, 1)


def throttle_reasons(mask: Optional[int]) -> List[str]:
    """Return the names of the bits set in NVML's mask of clock event reasons."""
    return [name for bit, name in _THROTTLE_BITS if mask and mask & bit]


def ecc(corrected: Optional[int], uncorrected: Optional[int]) -> Optional[Dict[str, Optional[int]]]:
    """Return the two error counts, or None for a GPU without ECC."""
    if corrected is None and uncorrected is None:
        return None
    return {"corrected": corrected, "uncorrected": uncorrected}


def pcie(
    generation: Optional[int], width: Optional[int], max_generation: Optional[int], max_width: Optional[int]
) -> Optional[Dict[str, Optional[int]]]:
    """Return the PCIe link as it is and as it could be, or None when nothing is known of it."""
    if generation is None and width is None and max_generation is None and max_width is None:
        return None
    return {
        "generation": generation,
        "width": width,
        "max_generation": max_generation,
        "max_width": max_width,
    }


def process(pid: int, kind: str, mem_used_gb: Optional[float], name: Optional[str] = None) -> Dict[str, Any]:
    """Return what is known of a process that uses a GPU.

    Args:
        pid: its process id, as the GPU driver sees it.
        kind: ``compute`` or ``graphics`` (a desktop's own programs).
        mem_used_gb: GPU memory it holds.
        name: used when /proc does not tell (another PID namespace).

    Returns:
        ``{pid, type, user, name, mem_used_gb, job}``; job is the UGRO job it belongs to, None for anybody else's. One
        that runs under another account (``ugro_accounts``), whose environment is not ours to read, its unit tells.
    """
    user = None
    job = None
    try:
        uid = os.stat("%s/%d" % (_PROC, pid)).st_uid
        with open("%s/%d/comm" % (_PROC, pid), encoding="utf-8", errors="replace") as file:
            name = file.read().strip()
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)  # an account that exists no more
    except OSError:
        pass  # ended meanwhile, or in a PID namespace that is not ours
    try:
        with open("%s/%d/environ" % (_PROC, pid), "rb") as file:
            for entry in file.read().split(b"\0"):
                if entry.startswith(b"UGRO_JOB_ID="):
                    job = entry.partition(b"=")[2].decode(errors="replace")
    except OSError:
        job = _job_by_unit(pid)  # another user's
    return {"pid": pid, "type": kind, "user": user, "name": name, "mem_used_gb": mem_used_gb, "job": job}


def _job_by_unit(pid: int) -> Optional[str]:
    """Return the job in whose unit (see `units.unit_name`) a process runs: its cgroup is for everybody to read."""
    import re  # late: seldom needed, and a node pays for each import

    try:
        with open("%s/%d/cgroup" % (_PROC, pid), encoding="utf-8", errors="replace") as file:
            found = re.search(_UNIT, file.read())
    except OSError:
        return None
    if not found:
        return None
    # job-attempt-node, and the names of jobs and nodes may hold such numbers themselves.
    name = found.group(1)
    splits = [(name[: at.start()], at.group(1)) for at in re.finditer(r"-(?=([0-9]+)-[a-z0-9])", name) if at.start()]
    if len(splits) > 1:
        folders = _last_words(pid)
        for job, attempt in splits:
            if any(folder.endswith("/jobs/%s/%s" % (job, attempt)) for folder in folders):
                return job
    return splits[-1][0] if splits else None


def _last_words(pid: int) -> List[str]:
    """Return the last argument of a process and of all above it: of a supervisor that is its attempt's folder."""
    found: List[str] = []
    try:
        while pid > 1 and len(found) < 64:
            with open("%s/%d/cmdline" % (_PROC, pid), "rb") as file:
                found.append(file.read().rstrip(b"\0").rpartition(b"\0")[2].decode(errors="replace"))
            with open("%s/%d/stat" % (_PROC, pid), "rb") as file:
                pid = int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        pass  # ended meanwhile
    return found
