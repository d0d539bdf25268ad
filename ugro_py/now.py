"""The cluster at this moment: nodes, their GPUs with the newest readings, and jobs with their progress."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ugro_py import pace
from ugro_py.health.known import shown, why
from ugro_py.moments import iso
from ugro_py.paths import JobPaths
from ugro_py.state.views import job_list

if TYPE_CHECKING:
    from ugro_py.cluster import Cluster
    from ugro_py.scheduler import Gpu
    from ugro_py.state import NodeRow, Store
    from ugro_py.state.rows import RankRow

# A node samples itself every second; of one that said nothing for so long nothing is known now.
_STALE_S = 20.0
_TAIL_BYTES = 1 << 16
_METRICS = (
    "step", "total_steps", "training_loss", "throughput_tokens_sec", "gradient_norm", "learning_rate", "gpu_util",
    "gpu_mem_used_gb",
)  # fmt: skip
_READINGS = ("util", "mem_used_gb", "temperature_c", "power_w")


def snapshot(store: Store, cluster: Cluster) -> dict[str, Any]:
    """Return what `ugro top` shows, as JSON values.

    `nodes`: those of the inventory and others that a job holds GPUs of, each with its `state`, the `reason` for it,
    `cpu_percent` and `mem_used_gb` while a job runs there, and `gpus` with the `job` that holds each, and `util`
    (percent), `mem_used_gb`, `temperature_c`, `power_w` while that job runs. `jobs`: as `ugro ps --json`, and `step`,
    `total_steps`, `loss`, `throughput_tokens_sec`, `eta_s` and `rank_metrics`, the newest metrics of each rank.
    What is not known is None.
    """
    jobs = job_list(store)
    ranks = store.ranks_of([job["job"] for job in jobs])
    samples: dict[str, dict[str, Any]] = {}
    for job in jobs:
        places = {(rank.attempt, rank.node) for rank in ranks[job["job"]]} if job["status"] == "running" else ()
        for attempt, node in places:
            _join(samples.setdefault(node, {}), _newest_sample(JobPaths(job["job"]).node_events(attempt, node)))
    return {
        "at": iso(datetime.now(UTC)),
        "cluster": cluster.name,
        "nodes": _nodes(store, cluster, samples),
        "jobs": [{**job, **_progress(job, ranks[job["job"]])} for job in jobs],
    }


def _join(known: dict[str, Any], sample: Mapping[str, Any]) -> None:
    """Add what one job's supervisor read of a node to what others did: each reads the GPUs of its own job."""
    known |= {**sample, "gpus": {**known.get("gpus", {}), **sample.get("gpus", {})}}


def _progress(job: Mapping[str, Any], ranks: Sequence[RankRow]) -> dict[str, Any]:
    elapsed_s = job["duration_s"] if job["status"] == "running" else None
    found = pace.progress(JobPaths(job["job"]), elapsed_s, len(ranks))
    metrics = found.pop("ranks")
    rows = [
        {
            "rank": row.rank,
            "node": row.node,
            "status": row.status,
            "metrics": {key: pace.finite(metrics.get(row.rank, {}).get(key)) for key in _METRICS},
        }
        for row in ranks
    ]
    return {**found, "rank_metrics": rows}


def _nodes(store: Store, cluster: Cluster, samples: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    busy, gpus, unusable = store.busy(), store.gpus(), store.unusable_gpus()
    described = {node.name: node for node in cluster.nodes}
    # Of a node of the same name in another inventory nothing is known here.
    rows = {
        row.name: row
        for row in store.nodes()
        if row.name not in described or described[row.name].address == row.address
    }
    holding, in_use = {gpu.node for gpu in gpus if gpu.uuid in busy}, store.busy_nodes()
    found = []
    for name in [*described, *sorted(holding - described.keys())]:
        node, row, sample = described.get(name), rows.get(name), samples.get(name, {})
        own = [gpu for gpu in gpus if gpu.node == name and name in rows]
        found.append(
            {
                "node": name,
                "address": node.address if node else row.address if row else None,
                "state": shown(row, name in in_use),
                "reason": _reason(row),
                "gpu": node.gpu if node else None,
                "cpu_percent": pace.finite(sample.get("cpu_percent")),
                "mem_used_gb": pace.finite(sample.get("mem_used_gb")),
                "gpus": [_gpu(gpu, busy.get(gpu.uuid), unusable.get(gpu.uuid), sample) for gpu in own],
            }
        )
    return found


def _reason(row: NodeRow | None) -> str:
    return why(row) or (row.health_reason if row else "")


def _gpu(gpu: Gpu, job: str | None, unusable: str | None, sample: Mapping[str, Any]) -> dict[str, Any]:
    reading = sample.get("gpus", {}).get(gpu.uuid, {})
    return {
        "uuid": gpu.uuid, "index": gpu.index, "kind": gpu.kind, "name": gpu.name, "vram_gb": gpu.vram_gb,
        "job": job, "unusable": unusable, **{key: pace.finite(reading.get(key)) for key in _READINGS},
    }  # fmt: skip


def _newest_sample(path: Path) -> dict[str, Any]:
    """Return the last sample among a node's events; its `gpus` by their UUID. Empty where none is fresh."""
    try:
        if time.time() - path.stat().st_mtime > _STALE_S:
            return {}
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            lines = file.read().splitlines()
    except FileNotFoundError:
        return {}
    for line in reversed(lines):
        if b'"sample"' not in line:
            continue
        try:
            event = json.loads(line)
            if event["kind"] == "sample":
                return {**event, "gpus": {gpu["uuid"]: gpu for gpu in event.get("gpus", ())}}
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return {}
