"""The queue: what waits, in which order, and for what."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter

from ugro_py.api.auth import Agent, Who
from ugro_py.queue.decide import decide
from ugro_py.queue.snapshot import snapshot_of

router = APIRouter(prefix="/v1/queue", tags=["queue"])


@router.get("")
def show_queue(agent: Agent, who: Who) -> list[dict[str, Any]]:
    """Show the jobs that wait, first in line first: who wants what, why it waits, and when it starts at the latest."""
    decision = decide(snapshot_of(agent.store, agent.cluster, time.time()))
    rows = {job.name: job for job in agent.store.jobs(active=True)}
    found = []
    for place, name in enumerate(decision.order, 1):
        if name not in rows:
            continue  # taken out meanwhile
        job = rows[name]
        at = decision.expected.get(name)
        found.append(
            {
                "place": place, "job": name, "job_id": name, "user": job.user, "priority": job.priority,
                "nodes": job.request.get("nodes"), "gpus": job.request.get("gpus"), "held_by": job.held_by,
                "reason": decision.reasons.get(name, "starts now"),
                "age_s": round((datetime.now(UTC) - job.created_at).total_seconds(), 1),
                "expected": None if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        )  # fmt: skip
    return found
