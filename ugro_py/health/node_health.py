"""What is known of one node's health: what the sweep makes of its probes, and its ledger records."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.ugro.cluster.plugins.module_utils import health as readings

from ugro_py.compare import Finding
from ugro_py.health import states


@dataclass(frozen=True)
class NodeHealth:
    """What is known of a node's health.

    Attributes:
        state: unknown, healthy, degraded or unreachable, after hysteresis.
        reason: why it is not healthy, in one line.
        summary: what it trains with, "" as long as it never answered.
        findings: all findings of the newest probe, good and bad.
        problems: those that count: they were seen often enough.
        latency_ms: the best of the last few round trips.
        age_s: how old the readings are; None without any.
    """

    node: str
    state: states.Observed
    reason: str = ""
    summary: str = ""
    findings: tuple[Finding, ...] = ()
    problems: tuple[Finding, ...] = ()
    latency_ms: float | None = None
    age_s: float | None = None

    @property
    def severity(self) -> str:
        """The highest severity of the findings that count."""
        if self.state == "unreachable":
            return "critical"
        severity: str = readings.worst([{"severity": item.severity} for item in self.problems])
        return severity
