"""Every check there is: what it looks at, how bad it can be, by which thresholds, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class CheckInfo:
    """A check.

    Attributes:
        looks_at: what is read, in a few words.
        worst: the highest severity it can have.
        thresholds: names in the inventory's `ugro_health.thresholds`.
        then: what follows: `drain` (the node is drained when it is critical), `gpu` (that GPU is given to no job),
            `node` (no GPU of the node is given to a job while it is critical), `degraded` (the node is shown as
            degraded), `nothing` (it is shown, and changes no state).
    """

    looks_at: str
    worst: str
    then: str
    thresholds: tuple[str, ...] = ()


CHECKS: dict[str, CheckInfo] = {
    "ssh_reachable": CheckInfo("heartbeats and answers over SSH", "critical", "node"),
    "gpu_available": CheckInfo("GPUs that the driver shows, against the inventory", "critical", "drain"),
    "gpu_lost": CheckInfo("GPUs that no longer answer or have disappeared", "critical", "drain"),
    "gpu_driver": CheckInfo("the NVIDIA driver: loaded, answering, of the library's version", "critical", "drain"),
    "gpu_xid": CheckInfo("Xid errors in the kernel log", "critical", "drain", ("xid_hours",)),
    "gpu_ecc": CheckInfo("memory errors since the driver was loaded", "critical", "gpu", ("ecc_corrected_warning",)),
    "gpu_temperature": CheckInfo(
        "temperature of each GPU", "critical", "gpu", ("temperature_c_warning", "temperature_c_critical")
    ),
    "gpu_throttling": CheckInfo("clocks held down by heat or power", "warning", "degraded"),
    "gpu_processes": CheckInfo("processes on a GPU that UGRO did not start", "warning", "gpu"),
    "gpu_model": CheckInfo("model and memory of each GPU, against the inventory", "warning", "degraded"),
    "pytorch_ready": CheckInfo("torch of the training Python, against GPU and driver", "critical", "node"),
    "disk_space_gb": CheckInfo(
        "free space of UGRO's folder", "critical", "node", ("disk_free_gb_warning", "disk_free_gb_critical")
    ),
    "memory_available_gb": CheckInfo(
        "memory available", "critical", "node", ("memory_available_gb_warning", "memory_available_gb_critical")
    ),
    "load_per_cpu": CheckInfo("load average per CPU", "warning", "nothing", ("load_per_cpu_warning",)),
    "network_latency_ms": CheckInfo("a round trip over SSH", "warning", "degraded", ("latency_ms_warning",)),
    "clock": CheckInfo("clocks of the nodes against each other", "critical", "degraded", ("clock_skew_s_critical",)),
    "torch_version": CheckInfo("torch against the other nodes", "critical", "degraded"),
    "cuda_version": CheckInfo("torch's CUDA against the other nodes", "critical", "degraded"),
    "nccl_version": CheckInfo("NCCL against the other nodes", "critical", "degraded"),
    "python_version": CheckInfo("Python against the other nodes", "warning", "degraded"),
    "transformers_version": CheckInfo("transformers against the other nodes", "warning", "degraded"),
    "host_name": CheckInfo("what the node's own name resolves to", "critical", "node"),
    "interface": CheckInfo("the interface that holds the cluster address", "critical", "node"),
    "rsync": CheckInfo("rsync is installed", "critical", "node"),
    "unit_manager": CheckInfo("a systemd manager that holds jobs together", "warning", "degraded"),
}

_DRIVER_DRAINS = "driver_library_mismatch"


def counts(check: str) -> bool:
    """Say whether a finding of this check makes a node degraded."""
    return check not in CHECKS or CHECKS[check].then != "nothing"


def drains(check: str, severity: str, value: Any) -> bool:
    """Say whether a finding is a reason to drain its node without asking: only what no waiting puts right."""
    if severity != "critical" or check not in CHECKS or CHECKS[check].then != "drain":
        return False
    return check != "gpu_driver" or value == _DRIVER_DRAINS


def lasts(check: str) -> bool:
    """Say whether only a person ends a drain for this check: the log of a card that failed is gone after a reboot."""
    return check == "gpu_xid"


def blocks(check: str, severity: str) -> bool:
    """Say whether no GPU of the node may be given to a job while there is this finding."""
    return severity == "critical" and check in CHECKS and CHECKS[check].then in ("node", "drain")


def table() -> str:
    """Return all checks as a Markdown table, for docs/health.md."""
    follows = {
        "drain": "critical: the node is drained",
        "gpu": "that GPU gets no job",
        "node": "critical: its GPUs get no job",
        "degraded": "shown as degraded",
        "nothing": "shown only",
    }
    lines = ["| check | looks at | at worst | then | thresholds |", "| --- | --- | --- | --- | --- |"]
    for name, info in CHECKS.items():
        limits = ", ".join(f"`{limit}`" for limit in info.thresholds) or "-"
        lines.append(f"| `{name}` | {info.looks_at} | {info.worst} | {follows[info.then]} | {limits} |")
    return "\n".join(lines)
