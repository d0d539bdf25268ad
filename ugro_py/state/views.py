"""What `ugro ps` and `ugro state` show, as plain JSON values; `ugro state` in the seed's shape."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ugro_py.moments import iso
from ugro_py.scheduler import Gpu
from ugro_py.state.rows import JobRow, NodeRow, RankRow, ran_s

if TYPE_CHECKING:
    from ugro_py.cluster import Cluster, Node
    from ugro_py.state.store import Store

LAST_ENDED = 5
"""How many ended jobs `ugro ps` shows beside the active ones."""


def job_list(
    store: Store,
    *,
    everything: bool = False,
    limit: int | None = None,
    before: str | None = None,
    now: datetime | None = None,
) -> list[dict[str, Any]]:
    """Return the active jobs and the last few that ended (or `everything`), newest first.

    Of `everything` at most `limit`, and those submitted before the job `before`; NotFoundError if there is none.

    Each has: job, job_id (the same), status, reason, priority, nodes, gpus, ranks (how many), user, model, created_at,
    started_at, ended_at (ISO 8601, UTC), age_s (since it was made) and duration_s (since it first ran, until its
    end; None if it never ran, or waits to run again).
    """
    if everything:
        jobs = store.jobs(limit=limit, before=before)
    else:
        # Read the ended ones first: a job that ends in between is then shown once, not lost.
        ended = store.jobs(active=False, limit=LAST_ENDED)
        active = store.jobs(active=True)
        names = {job.name for job in active}
        jobs = active + [job for job in ended if job.name not in names]
    ranks = store.ranks_of([job.name for job in jobs])
    at = now or datetime.now(UTC)
    return [_job_entry(job, ranks[job.name], at) for job in jobs]


def _job_entry(job: JobRow, ranks: list[RankRow], now: datetime) -> dict[str, Any]:
    duration = ran_s(job, now)
    return {
        "job": job.name,
        "job_id": job.name,
        "status": job.status,
        "reason": job.reason,
        "priority": job.priority,
        "nodes": _nodes_of(ranks),
        "gpus": [f"{rank.node}:{rank.gpu_index}" for rank in ranks],
        "ranks": len(ranks),
        "user": job.user,
        "model": _model(job),
        "created_at": iso(job.created_at),
        "started_at": iso(job.started_at),
        "ended_at": iso(job.ended_at),
        "age_s": round((now - job.created_at).total_seconds(), 1),
        "duration_s": None if duration is None else round(duration, 1),
    }


def cluster_state(store: Store, cluster: Cluster) -> dict[str, Any]:
    """Return the state of the cluster in the shape of the seed's `cluster_state.json`.

    Nodes are those of the inventory, and those no longer in it whose GPUs a job still holds. What a
    node answered goes before what the inventory says of its GPUs. `vram_gb` is GB per GPU. A node's
    status is `busy` when none of its GPUs is free, `unknown` when it never answered, else the status
    the store has (`available`, `unreachable` …). `running_job_id` is the job that holds its GPUs (the
    one that came first, if there are several).
    """
    busy = store.busy()
    gpus = store.gpus()
    addresses = {node.name: node.address for node in cluster.nodes}
    # Of a node of the same name in another inventory nothing is known here.
    rows = {row.name: row for row in store.nodes() if addresses.get(row.name, row.address) == row.address}
    jobs = store.jobs()
    ranks = store.ranks_of([job.name for job in jobs])
    holders: dict[str, str] = {}
    for job in reversed(jobs):
        for rank in ranks[job.name]:
            if busy.get(rank.gpu_uuid) == job.name:
                holders.setdefault(rank.node, job.name)
    described = {node.name: node for node in cluster.nodes}
    names = list(described) + sorted(holders.keys() - described.keys())
    return {
        "nodes": {
            name: _node_entry(
                described.get(name),
                rows.get(name),
                [gpu for gpu in gpus if gpu.node == name and name in rows],
                busy,
                holders.get(name),
            )
            for name in names
        },
        "jobs": {
            job.name: {
                "status": job.status,
                "ranks": [rank.rank for rank in ranks[job.name]],
                "model": _model(job),
                "started_at": iso(job.started_at),
                "gpu_nodes": _nodes_of(ranks[job.name]),
            }
            for job in reversed(jobs)
        },
    }


def _node_entry(
    node: Node | None, row: NodeRow | None, gpus: list[Gpu], busy: dict[str, str], holder: str | None
) -> dict[str, Any]:
    status = row.status if row else "unknown"
    if holder and status in ("available", "unknown") and all(gpu.uuid in busy for gpu in gpus):
        status = "busy"
    names = Counter(gpu.name for gpu in gpus)
    sizes = [gpu.vram_gb for gpu in gpus if gpu.vram_gb is not None]
    said = node.gpu if node else None
    vram = min(sizes, default=node.vram_gb if node else None)
    return {
        "ip": node.address if node else row.address if row else None,
        "gpu": ", ".join(f"{n} x {name}" if n > 1 else name for name, n in names.items()) or said,
        "vram_gb": int(vram) if vram is not None and vram == int(vram) else vram,
        "status": status,
        "running_job_id": holder,
    }


def _nodes_of(ranks: list[RankRow]) -> list[str]:
    return list(dict.fromkeys(rank.node for rank in ranks))


def _model(job: JobRow) -> str | None:
    """Return what the job trains: its model, or the script it runs."""
    found = job.request.get("script") or job.request.get("model")
    return found if isinstance(found, str) else None
