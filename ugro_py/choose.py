"""Which GPUs a job gets, from what the nodes answered just now; and whether those that the queue chose are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ugro_py.cluster import Cluster, Node
from ugro_py.errors import AllocationError, NodeError, UsageError
from ugro_py.request.job import JobRequest
from ugro_py.scheduler import Gpu, Placement, place

if TYPE_CHECKING:  # nodes are asked before the database is imported, see head_start.py
    from ugro_py.state import Store


class NotFreeError(AllocationError):
    """The GPUs asked for exist, but are not free now: it is worth waiting for them."""


def gpus_of(nodes: Sequence[Node], reports: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Gpu]]:
    """Return what each node has to train on: its GPUs, or CPU slots where there are none.

    Logical nodes that are one machine (connection local) share its GPUs by turns.
    """
    local = [node.name for node in nodes if node.connection == "local" and node.name in reports]
    result = {}
    for node in nodes:
        if node.name not in reports:
            continue
        seen = [gpu for gpu in reports[node.name]["gpu"]["gpus"] if not gpu["lost"] and gpu["uuid"]]
        if node.name in local and len(local) > 1:
            turn = local.index(node.name)
            seen = [gpu for gpu in seen if gpu["index"] % len(local) == turn]
        gpus = [Gpu(gpu["uuid"], node.name, gpu["index"], "cuda", gpu["name"], gpu["vram_total_gb"]) for gpu in seen]
        machine_has_gpus = bool(reports[node.name]["gpu"]["gpus"])
        if not gpus and not machine_has_gpus:
            gpus = [Gpu(f"CPU-{node.name}-{slot}", node.name, slot, "cpu", "CPU", None) for slot in range(node.slots)]
        result[node.name] = gpus
    return result


def foreign(reports: Mapping[str, Mapping[str, Any]], held: Mapping[str, str]) -> dict[str, str]:
    """Return GPU UUID -> who uses it, for GPUs with compute processes that no job of ours holds."""
    used = {}
    for reading in reports.values():
        for gpu in reading["gpu"]["gpus"]:
            work = [process for process in gpu["processes"] if process.get("type", "compute") == "compute"]
            if work and gpu["uuid"] not in held:
                first = work[0]
                used[gpu["uuid"]] = f"process {first['pid']} of {first.get('user') or 'somebody'}"
    return used


def place_free(
    request: JobRequest,
    cluster: Cluster,
    store: Store,
    reports: Mapping[str, Mapping[str, Any]],
    errors: Mapping[str, NodeError],
    *,
    dry_run: bool,
) -> list[Placement]:
    """Choose the GPUs among those that are free."""
    held = store.busy()
    not_for_jobs = {**store.unusable_gpus(), **foreign(reports, held)}
    closed = store.unschedulable()
    busy = {**{gpu.uuid: "" for gpu in store.gpus(list(closed))}, **dict.fromkeys(not_for_jobs, ""), **held}
    try:
        return choose(request, cluster, store, reports, errors, busy, dry_run=dry_run)
    except AllocationError as error:
        choose(request, cluster, store, reports, errors, None, dry_run=True)  # raises where waiting would not help
        why = [error.came_back, *(closed[name] for name in closed if name in reports), *not_for_jobs.values()]
        raise NotFreeError(error.what, "; ".join(filter(None, why)), error.next_step) from error


def choose(
    request: JobRequest,
    cluster: Cluster,
    store: Store,
    reports: Mapping[str, Mapping[str, Any]],
    errors: Mapping[str, NodeError],
    busy: Mapping[str, str] | None,
    *,
    dry_run: bool = False,
) -> list[Placement]:
    """Choose GPUs; a node that cannot be reached matters only if the request cannot be met without it."""
    everything = request.nodes is None and request.gpus is None
    if errors and (everything or not reports):
        raise next(iter(errors.values()))
    nodes = [node for node in cluster.nodes if node.name in reports]
    gpus = gpus_of(nodes, reports)
    if not dry_run:
        for node in nodes:
            store.sync_node(node, gpus[node.name], facts_of(reports[node.name]))
    flat = [gpu for node in nodes for gpu in gpus[node.name]]
    if any(gpu.kind == "cuda" for gpu in flat):
        flat = [gpu for gpu in flat if gpu.kind == "cuda"]  # one gang speaks NCCL or gloo, not both
    selection = request.selection
    selection = replace(selection, exclude={name: gpu for name, gpu in selection.exclude.items() if name in reports})
    try:
        return place(selection, [node.name for node in nodes], flat, busy or {})
    except (AllocationError, UsageError) as error:
        if errors:
            raise next(iter(errors.values())) from error
        raise


def confirm(
    placements: Sequence[Placement],
    job: str,
    cluster: Cluster,
    store: Store,
    reports: Mapping[str, Mapping[str, Any]],
    errors: Mapping[str, NodeError],
) -> None:
    """See that the GPUs which the queue gave a job are there, and that nobody else uses them.

    Raises:
        NodeError: a node does not answer.
        NotFreeError: a GPU is gone, held or used by somebody else.
    """
    held = store.busy()
    taken = {**{uuid: f"job {holder} holds it" for uuid, holder in held.items() if holder != job},
             **{uuid: f"{who} uses it" for uuid, who in foreign(reports, held).items()}}  # fmt: skip
    for rank in placements:
        if rank.node in errors:
            raise errors[rank.node]
        report = reports[rank.node]
        if cluster.node(rank.node).connection != "local":  # nodes that share a machine only tell together who has what
            gpus = gpus_of([cluster.node(rank.node)], reports)[rank.node]
            store.sync_node(cluster.node(rank.node), gpus, facts_of(report))
        there = {gpu["uuid"] for gpu in report["gpu"]["gpus"] if not gpu["lost"]}
        if rank.gpu.kind == "cuda" and rank.gpu.uuid not in there:
            taken[rank.gpu.uuid] = "it is gone"
        if rank.gpu.uuid in taken:
            raise NotFreeError(f"{rank.node}:{rank.gpu.index}", taken[rank.gpu.uuid], "the job waits for another")


def facts_of(reading: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the store keeps of a node's readings."""
    return {"node": reading["node"], "driver": reading["gpu"]["driver"], "cuda": reading["gpu"]["cuda"]}
