"""Is the cluster ready to train? Findings per node and across nodes, from the reports of `ugro_py.transport`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ansible_collections.ugro.cluster.plugins.module_utils import health

from ugro_py.cluster import Node
from ugro_py.errors import NodeError, VerificationError

Severity = Literal["ok", "warning", "critical"]
MARKS: Mapping[Severity, str] = {"ok": "✓", "warning": "!", "critical": "✗"}

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


class NotReadyError(VerificationError):
    """Findings that would make a launch fail: a first line that sums up, then one line for each.

    Attributes:
        findings: the critical findings.
    """

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        nodes = list(dict.fromkeys(finding.node for finding in findings))
        count = f"{len(findings)} finding{'' if len(findings) == 1 else 's'}"
        super().__init__(f"verify {', '.join(nodes)}", f"{count} would make a launch fail")

    def __str__(self) -> str:
        return "\n".join([super().__str__(), *(f"  {finding.line}" for finding in self.findings)])


def expectations(node: Node) -> dict[str, Any]:
    """Return what the inventory says of a node, in the form `health.findings` takes."""
    return {
        "name": node.name,
        "connection": node.connection,
        "gpu_count": node.gpu_count,
        "vram_gb": node.vram_gb,
        "gpu": node.gpu,
    }


def unreachable(node: str, error: NodeError | str) -> Finding:
    """Return the finding for a node that gave no report."""
    if isinstance(error, str):
        return Finding(node, "reachable", "critical", f"unreachable: {error}", "see that it is on")
    said = error.came_back or error.what.removeprefix(f"{node}: ")
    return Finding(node, "reachable", "critical", f"unreachable: {said}", error.next_step)


@dataclass(frozen=True)
class Verdict:
    """All findings, and what each node trains with ("RTX 4070 (8GB)", or "unreachable"), in inventory order."""

    findings: tuple[Finding, ...]
    summaries: Mapping[str, str]

    def of(self, node: str) -> list[Finding]:
        """Return the findings of one node."""
        return [finding for finding in self.findings if finding.node == node]

    def severity(self, node: str | None = None) -> Severity:
        """Return the highest severity, of one node or of all."""
        found = self.findings if node is None else self.of(node)
        severity: Severity = health.worst([{"severity": finding.severity} for finding in found])
        return severity

    def is_unreachable(self, node: str) -> bool:
        """Say whether the node gave no report."""
        return any(finding.check == "reachable" for finding in self.of(node))

    def lines(self, everything: bool = False) -> list[str]:
        """Return a line for each node that is well, and for each finding that is not.

        Args:
            everything: also a line for each check that passed.
        """
        lines = []
        for node, summary in self.summaries.items():
            shown = [finding for finding in self.of(node) if finding.severity != "ok"]
            if everything or not shown:
                lines.append(f"{MARKS[self.severity(node)]} {node}: {summary}")
            if everything:
                lines += [f"    {MARKS[finding.severity]} {finding.advice}" for finding in self.of(node)]
            else:
                lines += [f"{MARKS[finding.severity]} {finding.line}" for finding in shown]
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return the verdict as JSON-able data."""
        return {
            "severity": self.severity(),
            "nodes": {
                node: {
                    "severity": self.severity(node),
                    "summary": summary,
                    "findings": [
                        {key: value for key, value in asdict(finding).items() if key != "node"}
                        for finding in self.of(node)
                    ],
                }
                for node, summary in self.summaries.items()
            },
        }


def judge(
    nodes: Iterable[Node],
    reports: Mapping[str, dict[str, Any] | NodeError],
    thresholds: Mapping[str, Any] | None = None,
) -> Verdict:
    """Return everything known about `nodes`: each by itself, those that gave no report, and all compared.

    Args:
        nodes: the nodes that were asked.
        reports: from `transport.report_all`.
        thresholds: replaces values of `health.DEFAULT_THRESHOLDS`.
    """
    found: list[Finding] = []
    answered: dict[str, dict[str, Any]] = {}
    summaries: dict[str, str] = {}
    for node in nodes:
        report = reports[node.name]
        if isinstance(report, NodeError):
            found.append(unreachable(node.name, report))
            summaries[node.name] = "unreachable"
            continue
        answered[node.name] = report
        summaries[node.name] = health.summary(report["gpu"], report["node"])
        items = health.findings(report["gpu"], report["node"], thresholds, expectations(node))
        found += [from_item(node.name, item) for item in items]
    return Verdict(tuple(found + compare(answered)), summaries)


def findings(
    nodes: Iterable[Node],
    reports: Mapping[str, dict[str, Any] | NodeError],
    thresholds: Mapping[str, Any] | None = None,
) -> list[Finding]:
    """Return the findings of `judge`, to hand to `raise_if_not_ready`."""
    return list(judge(nodes, reports, thresholds).findings)


def judge_results(results: Mapping[str, Mapping[str, Any]]) -> Verdict:
    """Return the verdict on the results of the module `ugro.cluster.gpu_health`, by host.

    A result without findings is that of a host which could not be reached or could not run the module.
    """
    found: list[Finding] = []
    summaries: dict[str, str] = {}
    for name, result in results.items():
        if "findings" in result:
            summaries[name] = result["summary"]
            found += [from_item(name, item) for item in result["findings"]]
        else:
            reason = " ".join(str(result.get("msg") or "the reading did not run").split())
            summaries[name] = "unreachable"
            found.append(unreachable(name, reason))
    found += compare({name: dict(result) for name, result in results.items() if "findings" in result})
    return Verdict(tuple(found), summaries)


def from_item(node: str, item: Mapping[str, Any]) -> Finding:
    """Return a finding of `health.findings` as a `Finding` of `node`."""
    return Finding(node, **{key: item[key] for key in ("check", "severity", "text", "remedy", "value")})


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


def raise_if_not_ready(found: Iterable[Finding]) -> None:
    """Do nothing if no finding is critical.

    Raises:
        NotReadyError: at least one is; its text has one line for each.
    """
    critical = [finding for finding in found if finding.severity == "critical"]
    if critical:
        raise NotReadyError(critical)


def raise_for(verdict: Verdict, verb: str) -> None:
    """Do nothing if every node is fit; else raise what makes `ugro VERB` end with the right exit code.

    The findings themselves were printed already, so the error only sums up.

    Raises:
        NodeError: a node gave no report.
        VerificationError: a node has a critical finding.
    """
    lost = [node for node in verdict.summaries if verdict.is_unreachable(node)]
    bad = [node for node in verdict.summaries if verdict.severity(node) == "critical" and node not in lost]
    count = len(verdict.summaries)
    what = f"{verb} {count} node{'' if count == 1 else 's'}"
    if lost:
        also = f", {', '.join(bad)} not fit for training" if bad else ""
        raise NodeError(what, f"{', '.join(lost)} unreachable{also}", "see the lines marked ✗")
    if bad:
        raise VerificationError(what, f"{', '.join(bad)} not fit for training", "see the lines marked ✗")
