"""What must not differ between the nodes of a cluster: versions, clocks, and the network in between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ansible_collections.ugro.cluster.plugins.module_utils import health

Severity = Literal["ok", "warning", "critical"]

# Field of `train_python` -> what it is called, and how bad it is when it differs between nodes.
_VERSIONS: tuple[tuple[str, str, Severity], ...] = (
    ("torch", "torch", "critical"),
    ("cuda", "CUDA of torch", "critical"),
    ("nccl", "NCCL", "critical"),
    ("python", "Python", "warning"),
    ("transformers", "transformers", "warning"),
)


@dataclass(frozen=True)
class Finding:
    """What one check found on one node; `remedy` is empty when there is nothing to do."""

    node: str
    check: str
    severity: Severity
    text: str
    remedy: str = ""
    value: Any = None

    @property
    def advice(self) -> str:
        """What was found and what to do, without the node."""
        return f"{self.text}; {self.remedy}" if self.remedy else self.text

    @property
    def line(self) -> str:
        """The finding as one line: node, what it is, what to do."""
        return f"{self.node}: {self.advice}"


def compare(reports: Mapping[str, dict[str, Any]], thresholds: Mapping[str, Any] | None = None) -> list[Finding]:
    """Return what differs between nodes that must not.

    Args:
        reports: ``{"node", "gpu", "clock_offset_s", "latency_ms"}`` of each node, in inventory order; the last two
            may be missing. Clocks are compared with the first node's, versions with the most common one.
        thresholds: replaces values of `health.DEFAULT_THRESHOLDS`.
    """
    limits = health.limits_of(thresholds)
    found: list[Finding] = []
    for field, label, severity in _VERSIONS:
        found += _version_findings(reports, field, label, severity)
    found += _clock_findings(reports, limits["clock_skew_s_critical"])
    return found + _latency_findings(reports, limits["latency_ms_warning"])


def _version(report: Mapping[str, Any], field: str) -> str | None:
    python = report["node"].get("train_python") or {}
    if not python.get("torch"):
        return None  # a finding of its own (pytorch_ready)
    value = python["packages"].get(field) if field == "transformers" else python[field]
    if field in ("cuda", "nccl"):
        return str(value or "none")
    if field == "python" and value:
        value = ".".join(value.split(".")[:2])
    return str(value) if value else None


def _version_findings(
    reports: Mapping[str, dict[str, Any]], field: str, label: str, severity: Severity
) -> list[Finding]:
    versions = {name: version for name, report in reports.items() if (version := _version(report, field))}
    if len(set(versions.values())) < 2:
        return []
    usual = Counter(versions.values()).most_common(1)[0][0]
    everyone = ", ".join(f"{name} {version}" for name, version in versions.items())
    return [
        Finding(name, f"{field}_version", severity, f"{label} differs ({everyone})", "run `ugro bootstrap`", version)
        for name, version in versions.items()
        if version != usual
    ]


def _clock_findings(reports: Mapping[str, dict[str, Any]], limit_s: float) -> list[Finding]:
    offsets = {name: report["clock_offset_s"] for name, report in reports.items() if "clock_offset_s" in report}
    if not offsets:
        return []
    first, base = next(iter(offsets.items()))
    return [
        Finding(
            name,
            "clock",
            "critical",
            f"its clock is {abs(offset - base):.1f} s {'ahead of' if offset > base else 'behind'} that of {first}",
            f"set it by NTP: `timedatectl set-ntp true` on {name}",
            round(offset - base, 3),
        )
        for name, offset in offsets.items()
        if abs(offset - base) > limit_s
    ]


def _latency_findings(reports: Mapping[str, dict[str, Any]], limit_ms: float) -> list[Finding]:
    found = []
    for name, report in reports.items():
        latency = report.get("latency_ms")
        if latency is None:
            continue
        slow = latency > limit_ms
        remedy = f"check the network to {name}, and its load" if slow else ""
        text = f"{latency:.1f} ms for a round trip"
        found.append(Finding(name, "network_latency_ms", "warning" if slow else "ok", text, remedy, latency))
    return found
