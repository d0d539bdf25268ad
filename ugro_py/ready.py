"""The first half of a launch: which nodes answer, what they have, who takes part, and whether that will work.

Nothing is made anywhere here, so a request that cannot be met leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ugro_py import verify
from ugro_py.cluster import Cluster, Node
from ugro_py.errors import AllocationError, NodeError, UgroError, UsageError, VerificationError
from ugro_py.request import JobRequest
from ugro_py.scheduler import Gpu, Placement, place
from ugro_py.strays import end_strays
from ugro_py.transport import Session, close_all, open_sessions, report

if TYPE_CHECKING:  # nodes are asked before the database is imported, see head_start.py
    from ugro_py.state import Store

# A job's rendezvous port is looked for from the inventory's master port on; open this range in a firewall.
PORT_RANGE = 100


@dataclass
class Reached:
    """The nodes that may take part: the session to each, or why there is none, and what those that answer have."""

    candidates: list[Node]
    sessions: dict[str, Session | NodeError]
    reports: dict[str, dict[str, Any]]
    errors: dict[str, NodeError]
    asked_at: float


@dataclass
class Ready:
    """Nodes that can start: sessions are open, GPUs chosen (not yet allocated), the rendezvous port tried.

    `blockers` are findings for which a launch is refused; only a dry run gets to see any.
    """

    placements: list[Placement]
    nodes: dict[str, Node]
    sessions: dict[str, Session]
    reports: dict[str, dict[str, Any]]
    warnings: list[str]
    master_addr: str
    master_port: int
    blockers: list[str]


async def reach(request: JobRequest, cluster: Cluster) -> Reached:
    """Open a session to every node that may take part, and read what it has.

    Raises:
        UsageError: the request names nodes that the cluster does not have.
    """
    asked_at = time.time()
    candidates = _candidates(request, cluster)
    sessions = await open_sessions(candidates)
    try:
        return Reached(candidates, sessions, *await read_all(candidates, sessions), asked_at)
    except BaseException:
        await close_all(sessions.values())
        raise


async def prepare(
    request: JobRequest, cluster: Cluster, store: Store, reached: Reached | None = None, *, dry_run: bool = False
) -> Ready:
    """Place the ranks, verify the chosen nodes and try the connections between them.

    The nodes are asked first, unless that was done just now (`reached`). What still runs there of attempts that
    are over is ended. A `dry_run` leaves it alone, and returns findings that would stop a launch as `blockers`.

    Raises:
        UgroError: as the exit codes say: UsageError, NodeError, VerificationError, AllocationError.
    """
    reached = reached or await reach(request, cluster)
    candidates, sessions, reports, errors = reached.candidates, reached.sessions, reached.reports, reached.errors
    try:
        answering = {name: session for name, session in sessions.items() if isinstance(session, Session)}
        if not dry_run and await end_strays(store, answering, reports):
            reports, errors = await read_all(candidates, sessions)  # what they held is free now
        placements = _place(request, cluster, store, reports, errors)
        chosen = list(dict.fromkeys(rank.node for rank in placements))
        findings = verify.findings([cluster.node(name) for name in chosen], reports)
        if not dry_run:
            verify.raise_if_not_ready(findings)
        used = {name: answering[name] for name in chosen}
        port = await _try_port(cluster, store, chosen, used)
        await close_all(session for name, session in sessions.items() if name not in used)
    except BaseException:
        await close_all(sessions.values())
        raise
    warnings = [str(error) for error in errors.values()] + [
        finding.line for finding in findings if finding.severity == "warning"
    ]
    return Ready(
        placements,
        {node.name: node for node in candidates if node.name in chosen},
        used,
        {name: reports[name] for name in chosen},
        warnings,
        cluster.node(chosen[0]).address,
        port,
        [finding.line for finding in findings if finding.severity == "critical"],
    )


def _candidates(request: JobRequest, cluster: Cluster) -> list[Node]:
    """Return the nodes that may take part; those left out by name are not even contacted."""
    selection = request.selection
    for name in (*selection.include, *selection.exclude):
        if name not in {node.name for node in cluster.nodes}:
            known = ", ".join(node.name for node in cluster.nodes)
            raise UsageError(f"node {name!r}", f"is not in {cluster.source}", f"known nodes: {known}")
    if request.nodes is not None and request.nodes > len(cluster.nodes):
        raise UsageError(
            f"--nodes {request.nodes}",
            f"the cluster has {len(cluster.nodes)}",
            "ask for fewer or `ugro nodes add` more",
        )
    excluded = {name for name, gpus in selection.exclude.items() if gpus is None}
    left = [
        node
        for node in cluster.nodes
        if node.name not in excluded and (not selection.include or node.name in selection.include)
    ]
    if not left:
        raise UsageError("--include and --exclude", "leave no node", "exclude fewer")
    return left


async def read_all(
    nodes: Sequence[Node], sessions: Mapping[str, Session | NodeError]
) -> tuple[dict[str, dict[str, Any]], dict[str, NodeError]]:
    """Return the readings of the nodes that answer, and the errors of those that do not."""

    async def one(node: Node) -> dict[str, Any] | NodeError:
        session = sessions[node.name]
        if isinstance(session, NodeError):
            return session
        try:
            return await report(session)
        except NodeError as error:
            return error

    results = await asyncio.gather(*(one(node) for node in nodes))
    reports: dict[str, dict[str, Any]] = {}
    errors: dict[str, NodeError] = {}
    for node, result in zip(nodes, results, strict=True):
        if isinstance(result, NodeError):
            errors[node.name] = result
        else:
            reports[node.name] = result
    return reports, errors


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


def _foreign(reports: Mapping[str, Mapping[str, Any]], held: Mapping[str, str]) -> dict[str, str]:
    """Return GPU UUID -> who uses it, for GPUs with compute processes that no job of ours holds."""
    used = {}
    for reading in reports.values():
        for gpu in reading["gpu"]["gpus"]:
            work = [process for process in gpu["processes"] if process.get("type", "compute") == "compute"]
            if work and gpu["uuid"] not in held:
                first = work[0]
                used[gpu["uuid"]] = f"process {first['pid']} of {first.get('user') or 'somebody'}"
    return used


def _place(
    request: JobRequest,
    cluster: Cluster,
    store: Store,
    reports: Mapping[str, Mapping[str, Any]],
    errors: Mapping[str, NodeError],
) -> list[Placement]:
    """Choose the GPUs; a node that cannot be reached matters only if the request cannot be met without it."""
    everything = request.nodes is None and request.gpus is None
    if errors and (everything or not reports):
        raise next(iter(errors.values()))
    nodes = [node for node in cluster.nodes if node.name in reports]
    gpus = gpus_of(nodes, reports)
    for node in nodes:
        store.sync_node(node, gpus[node.name], facts_of(reports[node.name]))
    flat = [gpu for node in nodes for gpu in gpus[node.name]]
    if any(gpu.kind == "cuda" for gpu in flat):
        flat = [gpu for gpu in flat if gpu.kind == "cuda"]  # one gang speaks NCCL or gloo, not both
    held = store.busy()
    busy = {**held, **_foreign(reports, held)}
    selection = request.selection
    selection = replace(selection, exclude={name: gpu for name, gpu in selection.exclude.items() if name in reports})
    try:
        return place(selection, [node.name for node in nodes], flat, busy)
    except (AllocationError, UsageError) as error:
        if errors:
            raise next(iter(errors.values())) from error
        raise


def facts_of(reading: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the store keeps of a node's readings."""
    return {"node": reading["node"], "driver": reading["gpu"]["driver"], "cuda": reading["gpu"]["cuda"]}


async def _try_port(cluster: Cluster, store: Store, chosen: list[str], sessions: Mapping[str, Session]) -> int:
    """Return a free port on the first node that every other node reaches.

    Raises:
        VerificationError: no port is free, or a node cannot connect.
    """
    master = sessions[chosen[0]]
    address = master.node.address
    leased = {attempt.master_port for job in store.jobs(active=True) if (attempt := store.attempt(job.name))}
    last: UgroError | None = None
    for port in range(cluster.master_port, min(cluster.master_port + PORT_RANGE, 65536)):
        if port in leased:
            continue
        try:
            await master.call("listen", address=address, port=port)
        except NodeError as error:
            last = error
            if "Address already in use" not in error.came_back:
                break
            continue
        try:
            await asyncio.gather(
                *(
                    session.call("connect", address=address, port=port)
                    for name, session in sessions.items()
                    if name != chosen[0]
                )
            )
        except NodeError as error:
            raise VerificationError(
                f"{error.what} to {chosen[0]} ({address}:{port})",
                error.came_back,
                f"open ports {cluster.master_port}-{cluster.master_port + PORT_RANGE - 1} between the nodes",
            ) from error
        finally:
            await master.call("unlisten", port=port)
        return port
    said = last.came_back if last else "all are leased"
    raise VerificationError(f"{chosen[0]}: find a free port on {address}", said, "correct ansible_host or free a port")
