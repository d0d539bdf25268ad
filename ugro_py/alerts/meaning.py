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
    "job_failed": "a job failed for good",
    "job_completed": "a job completed",
    "job_stopped": "a job was stopped on request",
    "agent_took_over": "the agent started, or one took the place of another",
}
"""What a rule can match, beside the kinds of events themselves."""

_TOPIC_OF_JOB = {"failed": "job_failed", "completed": "job_completed", "stopped": "job_stopped"}
_STATUS = re.compile(r"(\w+) -> (\w+)")
_DISK = re.compile(r"\bGB free at\b|\bdisk\b|no space left", re.IGNORECASE)
_GPU_GONE = re.compile(
    r"fall(?:en|s)? off the bus|\bXid 79\b|GPU[^.;]* (?:is|are) (?:gone|lost|missing)", re.IGNORECASE
)
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
    if event.kind in ("agent_started", "agent_took_over"):
        return [_moment(event, "agent_took_over")]
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
    what = ("degraded", "disk", "gpu")
    if state == "healthy":
        return over + [_end(event, f"{here}:{part}") for part in what]
    began = [_begin(event, f"{here}:degraded", "node_degraded")]
    if _DISK.search(event.text):
        began.append(_begin(event, f"{here}:disk", "disk_low"))
    if _GPU_GONE.search(event.text):
        began.append(_begin(event, f"{here}:gpu", "gpu_lost"))
    return over + began


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
