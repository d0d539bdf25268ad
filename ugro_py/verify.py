"""Is the cluster ready to train? Findings per node and across nodes, from the reports of `ugro_py.transport`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ansible_collections.ugro.cluster.plugins.module_utils import health

from ugro_py.cluster import Node
from ugro_py.compare import Finding, Severity, compare
from ugro_py.errors import NodeError, VerificationError

MARKS: Mapping[Severity, str] = {"ok": "✓", "warning": "!", "critical": "✗"}


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
        return Finding(node, "ssh_reachable", "critical", f"unreachable: {error}", "see that it is on")
    said = error.came_back or error.what.removeprefix(f"{node}: ")
    return Finding(node, "ssh_reachable", "critical", f"unreachable: {said}", error.next_step)


@dataclass(frozen=True)
class Verdict:
    """All findings, and what each node trains with ("RTX 4070 (8GB)", or "unreachable"), in inventory order."""

    findings: tuple[Finding, ...]
    summaries: Mapping[str, str]

    def plus(self, found: Iterable[Finding]) -> Verdict:
        """Return this verdict with more findings."""
        return Verdict((*self.findings, *found), self.summaries)

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
        return any(finding.check == "ssh_reachable" and finding.severity == "critical" for finding in self.of(node))

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
    since: Mapping[str, float] | None = None,
) -> Verdict:
    """Return everything known about `nodes`: each by itself, those that gave no report, and all compared.

    Args:
        nodes: the nodes that were asked.
        reports: from `readings.report_all`.
        thresholds: replaces values of `health.DEFAULT_THRESHOLDS`.
        since: node -> Unix time before which its Xid errors do not count.
    """
    found: list[Finding] = []
    answered: dict[str, dict[str, Any]] = {}
    summaries: dict[str, str] = {}
    nodes = list(nodes)
    local = [node.name for node in nodes if node.connection == "local"]
    for node in nodes:
        report = reports[node.name]
        if isinstance(report, NodeError):
            found.append(unreachable(node.name, report))
            summaries[node.name] = "unreachable"
            continue
        if node.name in local:
            report = share(report, local.index(node.name), len(local))
        answered[node.name] = report
        summaries[node.name] = health.summary(report["gpu"], report["node"])
        begin = (since or {}).get(node.name, 0.0)
        items = health.findings(report["gpu"], report["node"], thresholds, expectations(node), begin)
        found += [from_item(node.name, item) for item in items]
    return Verdict(tuple(found + compare(answered, thresholds)), summaries)


def share(report: dict[str, Any], turn: int, count: int) -> dict[str, Any]:
    """Return the report of one of `count` logical nodes of this machine, which share its GPUs by turns."""
    own = [gpu for gpu in report["gpu"]["gpus"] if (gpu["index"] or 0) % count == turn]
    return {**report, "gpu": {**report["gpu"], "gpus": own}}


def spared(reports: Mapping[Node, dict[str, Any]], unfit: Mapping[str, Collection[str]]) -> dict[Node, dict[str, Any]]:
    """Return nodes and reports without the GPUs that are known to be unfit (UUIDs, by node), nor what ails those."""
    judged = {}
    for node, report in reports.items():
        if node.name in unfit:
            gpu = report["gpu"]
            cards = [card for card in gpu["gpus"] if not card["lost"] and card["uuid"] not in unfit[node.name]]
            shown = {card.get("pci") for card in cards}
            xids = [item for item in gpu.get("xids") or () if item["pci"] in shown]
            judged[replace(node, gpu_count=None)] = {**report, "gpu": {**gpu, "gpus": cards, "xids": xids}}
        else:
            judged[node] = report
    return judged


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
            reason = reason.removeprefix("Task failed: ")
            summaries[name] = "unreachable"
            found.append(unreachable(name, reason))
    found += compare({name: dict(result) for name, result in results.items() if "findings" in result})
    return Verdict(tuple(found), summaries)


def from_item(node: str, item: Mapping[str, Any]) -> Finding:
    """Return a finding of `health.findings` as a `Finding` of `node`."""
    return Finding(node, **{key: item[key] for key in ("check", "severity", "text", "remedy", "value")})


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


__all__ = [
    "Finding",
    "NotReadyError",
    "Verdict",
    "compare",
    "findings",
    "judge",
    "judge_results",
    "raise_for",
    "raise_if_not_ready",
    "spared",
]
