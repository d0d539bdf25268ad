"""The queue as `ugro queue` and the API show it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ugro_py.cluster import Cluster
from ugro_py.moments import iso
from ugro_py.queue import words
from ugro_py.queue.decide import decide
from ugro_py.queue.snapshot import snapshot_of
from ugro_py.state import Store


def entries(store: Store, cluster: Cluster, now: float) -> list[dict[str, Any]]:
    """Return the jobs that wait, first in line first, as JSON values.

    Each has its `place` from 1, `job`, `user`, `priority`, what it `asks` for in words, `gpus`, `nodes`, the `reason`
    why it waits, `age_s` since it was asked for, and when it starts at the latest (`expected`) as far as time limits of
    running jobs promise it.
    """
    snapshot = snapshot_of(store, cluster, now)
    decision = decide(snapshot)
    jobs = {job.job: job for job in snapshot.waiting}
    created = {row.name: row.created_at for row in store.queued()}
    found = []
    for place, name in enumerate(decision.order, 1):
        job, at = jobs[name], decision.expected.get(name)
        since = created.get(name)
        found.append(
            {
                "place": place, "job": name, "job_id": name, "user": job.user, "priority": job.priority,
                "asks": words.asks(job.request), "nodes": job.request.nodes, "gpus": job.request.gpus,
                "held_by": job.held_by, "after": list(job.after), "time_limit_s": job.time_limit_s,
                "reason": decision.reasons.get(name, "starts now"),
                "age_s": round(now - (since.timestamp() if since else job.submitted_at), 1),
                "expected": None if at is None else iso(datetime.fromtimestamp(at, UTC)),
            }
        )  # fmt: skip
    return found
