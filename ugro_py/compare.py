"""What must not differ between the nodes of a cluster: versions, clocks, and the network in between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["ok", "warning", "critical"]
# Timestamps of a run come from several nodes; more than this and their order is wrong.
MAX_CLOCK_SKEW_S = 2.0
# A round trip in a LAN takes about 1 ms; beyond this every all-reduce is slow.
MAX_LATENCY_MS = 200.0

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


def compare(reports: Mapping[str, dict[str, Any]]) -> list[Finding]:
    """Return what differs between nodes that must not.

    Args:
        reports: ``{"node", "gpu", "clock_offset_s", "latency_ms"}`` of each node, in inventory order; the last two
            may be missing. Clocks are compared with the first node's, versions with the most common one.
    """
    found: list[Finding] = []
    for field, label, severity in _VERSIONS:
        found += _version_findings(reports, field, label, severity)
    return found + _clock_findings(reports) + _latency_findings(reports)


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


def _clock_findings(reports: Mapping[str, dict[str, Any]]) -> list[Finding]:
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
        if abs(offset - base) > MAX_CLOCK_SKEW_S
    ]


def _latency_findings(reports: Mapping[str, dict[str, Any]]) -> list[Finding]:
    found = []
    for name, report in reports.items():
        latency = report.get("latency_ms")
        if latency is None:
            continue
        slow = latency > MAX_LATENCY_MS
        remedy = f"check the network to {name}, and its load" if slow else ""
        text = f"{latency:.1f} ms for a round trip"
        found.append(Finding(name, "network_latency_ms", "warning" if slow else "ok", text, remedy, latency))
    return found
