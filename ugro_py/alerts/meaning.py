"""What an event means for the alerts: which condition begins, or is over. Pure."""

from __future__ import annotations

import re

from ugro_py.state._alerts import Change
from ugro_py.state.rows import EventRow

TOPICS: dict[str, str] = {
    "node_unreachable": "a node does not answer, or was lost during a job",
    "node_degraded": "the health sweep finds something wrong on a node",
    "node_drained": "no new job is placed on a node",
    "gpu_lost": "a GPU that was there is gone, or fell off the bus",
    "disk_low": "a disk of a node is nearly full",
    "health_*": "any other check of the health sweep, by its name: `health_gpu_xid`, `health_clock` …",
    "job_failed": "a job failed for good",
    "job_completed": "a job completed",
    "job_stopped": "a job was stopped on request",
    "agent_took_over": "the agent started, or one took the place of another",
}
"""What a rule can match, beside the kinds of events themselves."""

AGENT_HELD = "lease_held"
_TOPIC_OF_JOB = {"failed": "job_failed", "completed": "job_completed", "stopped": "job_stopped"}
_STATUS = re.compile(r"(\w+) -> (\w+)")
_TOPIC_OF_CHECK = {"disk_space_gb": "disk_low", "gpu_lost": "gpu_lost", "gpu_available": "gpu_lost"}
# What only says how the work goes on, or what is told by another event already.
_SILENT = frozenset(
    {"job_status", "node_status", "node_health", "node_resume", "node_back", "gpu_back", "alert_failed", "alert_sent"}
)


def changes(event: EventRow) -> list[Change]:
    """Return what began or ended with an event; an event that no topic covers is a condition of the moment."""
    if event.kind == "job_status":
        return _job(event)
    if event.kind in ("node_health", "node_status") and event.node:
        return _node(event)
    if event.kind == "node_lost" and event.node:
        return [_begin(event, f"node:{event.node}:unreachable", "node_unreachable")]
    if event.kind == "node_back" and event.node:
        return [_end(event, f"node:{event.node}:unreachable")]
    if event.kind == "node_drain" and event.node:
        return [_begin(event, f"node:{event.node}:drained", "node_drained")]
    if event.kind == "node_resume" and event.node:
        return [_end(event, f"node:{event.node}:drained")]
    if event.kind in ("gpu_missing", "gpu_lost"):
        return [_begin(event, f"gpu:{event.node}:{_uuid(event)}", "gpu_lost")]
    if event.kind == "gpu_back":
        return [_end(event, f"gpu:{event.node}:{_uuid(event)}")]
    if event.kind == AGENT_HELD:
        return [_moment(event, "agent_took_over")]
    if event.kind in ("health_finding", "health_cleared") and event.node:
        return [_check(event)]
    return [] if event.kind in _SILENT else [_moment(event, event.kind)]


def _job(event: EventRow) -> list[Change]:
    found = _STATUS.match(event.text)
    topic = _TOPIC_OF_JOB.get(found[2]) if found else None
    return [_moment(event, topic)] if topic else []


def _node(event: EventRow) -> list[Change]:
    """A node's state has changed: what it was is over, what it is begins."""
    data = event.data or {}
    found = _STATUS.match(event.text)
    state = str(data.get("to") or (found[2] if found else ""))
    here = f"node:{event.node}"
    if state == "unreachable":
        return [_begin(event, f"{here}:unreachable", "node_unreachable")]
    if state not in ("healthy", "degraded", "available"):
        return []
    over = [_end(event, f"{here}:unreachable")]
    if state == "available":
        return over  # says that it answers, nothing of its health
    if state == "healthy":
        return [*over, _end(event, f"{here}:degraded"), _end(event, f"health:{event.node}:*")]
    return [*over, _begin(event, f"{here}:degraded", "node_degraded")]


def _check(event: EventRow) -> Change:
    """A problem that the health sweep has found, or finds no more."""
    check = str((event.data or {}).get("check") or "unknown")
    key = f"health:{event.node}:{check}"
    if event.kind == "health_cleared":
        return _end(event, key)
    return _begin(event, key, _TOPIC_OF_CHECK.get(check, f"health_{check}"))


def _uuid(event: EventRow) -> str:
    uuid = (event.data or {}).get("uuid")
    if isinstance(uuid, str):
        return uuid
    found = re.search(r"\b((?:GPU|MIG|CPU)-\S+?)(?=[\s,;:)]|$)", event.text)
    return found[1] if found else "?"


def _begin(event: EventRow, key: str, topic: str) -> Change:
    return Change(
        key[:200], True, event.at, topic[:40], event.severity, event.text, event.job, event.node, lasting=True
    )  # fmt: skip


def _end(event: EventRow, key: str) -> Change:
    return Change(key[:200], False, event.at)


def _moment(event: EventRow, topic: str) -> Change:
    key = f"once:{topic}:{event.job or ''}:{event.node or ''}:{'' if event.rank is None else event.rank}"
    return Change(
        key[:200], True, event.at, topic[:40], event.severity, event.text, event.job, event.node, lasting=False
    )  # fmt: skip
