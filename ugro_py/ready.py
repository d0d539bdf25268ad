"""The first half of a launch: which nodes answer, what they have, who takes part, and whether that will work.

Nothing is made anywhere here, so a request that cannot be met leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ugro_py import verify
from ugro_py.choose import NotFreeError, choose, confirm, facts_of, gpus_of, place_free
from ugro_py.cluster import Cluster, Node
from ugro_py.errors import NodeError, NotFoundError, UsageError
from ugro_py.master_port import try_port
from ugro_py.request.job import JobRequest
from ugro_py.scheduler import Placement
from ugro_py.strays import end_strays
from ugro_py.transport import Session, close_all, open_sessions, report

if TYPE_CHECKING:  # nodes are asked before the database is imported, see head_start.py
    from ugro_py.state import Store


@dataclass
class Reached:
    """The nodes that may take part: the session to each, or why there is none, and what those that answer have."""

    candidates: list[Node]
    sessions: dict[str, Session | NodeError]
    reports: dict[str, dict[str, Any]]
    errors: dict[str, NodeError]
    asked_at: float

    @property
    def closed(self) -> bool:
        """Whether a session to a node that answered has ended since."""
        return any(isinstance(session, Session) and session.closed for session in self.sessions.values())


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


async def reach(request: JobRequest, cluster: Cluster, only: Collection[str] | None = None) -> Reached:
    """Open a session to every node that may take part (of those in `only`), and read what it has.

    Raises:
        NotFoundError: the request names nodes that the cluster does not have.
        UsageError: no node is left.
    """
    asked_at = time.time()
    candidates = [node for node in _candidates(request, cluster) if only is None or node.name in only]
    sessions = await open_sessions(candidates)
    try:
        return Reached(candidates, sessions, *await read_all(candidates, sessions), asked_at)
    except BaseException:
        await close_all(sessions.values())
        raise


async def prepare(
    request: JobRequest,
    cluster: Cluster,
    store: Store,
    reached: Reached | None = None,
    *,
    dry_run: bool = False,
    decided: Sequence[Placement] | None = None,
    unfit: Mapping[str, Collection[str]] | None = None,
) -> Ready:
    """Place the ranks, verify the chosen nodes and try the connections between them.

    With `decided` the queue has placed the ranks; what is left is to see that these GPUs are there and free.

    The nodes are asked first, unless that was done just now (`reached`). What still runs there of attempts that
    are over is ended. A `dry_run` leaves it alone, and returns findings that would stop a launch as `blockers`.
    `unfit` are GPUs (UUIDs, by node) that the store knows to be so: what is wrong with them is no finding. With
    `decided` these are the ones that the job itself lost: a retry that had to wait is not kept from the others.

    Raises:
        UgroError: as the exit codes say: UsageError, NodeError, VerificationError, AllocationError.
    """
    only = None if decided is None else {rank.node for rank in decided}
    reached = reached or await reach(request, cluster, only)
    candidates, sessions, reports, errors = reached.candidates, reached.sessions, reached.reports, reached.errors
    try:
        answering = {name: session for name, session in sessions.items() if isinstance(session, Session)}
        if not dry_run and await end_strays(store, answering, reports):
            reports, errors = await read_all(candidates, sessions)  # what they held is free now
        if decided is None:
            placements = await store.patiently(
                place_free, request, cluster, store, reports, errors, dry_run=dry_run
            )  # fmt: skip
        else:
            placements = list(decided)
            await store.patiently(confirm, placements, request.name, cluster, store, reports, errors)
            unfit = unfit or await store.patiently(_lost_before, store, request.name, placements)
        chosen = list(dict.fromkeys(rank.node for rank in placements))
        judged = verify.spared({cluster.node(name): reports[name] for name in chosen}, unfit or {})
        findings = verify.findings(judged, {node.name: report for node, report in judged.items()})
        if not dry_run:
            verify.raise_if_not_ready(findings)
        used = {name: answering[name] for name in chosen}
        port = await try_port(cluster, store, chosen, used)
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


def _lost_before(store: Store, job: str, now: Sequence[Placement]) -> dict[str, list[str]]:
    """Return the GPUs, by node, that attempts of a job had and that nobody may have now; none of those it gets now."""
    newest = store.attempt(job)
    if newest is None:
        return {}
    unusable = store.unusable_gpus().keys() - {rank.gpu.uuid for rank in now}
    found: dict[str, list[str]] = {}
    for number in range(1, newest.number + 1):
        for rank in store.ranks(job, number):
            if rank.gpu_uuid in unusable:
                found.setdefault(rank.node, []).append(rank.gpu_uuid)
    return found


def check_possible(request: JobRequest, cluster: Cluster, store: Store, reached: Reached) -> None:
    """Refuse a request that could never be met, though every GPU were free; the store learns what the nodes have.

    Raises:
        UgroError: as `prepare`.
    """
    choose(request, cluster, store, reached.reports, reached.errors, None)


def _candidates(request: JobRequest, cluster: Cluster) -> list[Node]:
    """Return the nodes that may take part; those left out by name are not even contacted."""
    selection = request.selection
    for name in (*selection.include, *selection.exclude):
        if name not in {node.name for node in cluster.nodes}:
            known = ", ".join(node.name for node in cluster.nodes)
            raise NotFoundError(f"node {name!r}", f"is not in {cluster.source}", f"known nodes: {known}")
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


__all__ = ["NotFreeError", "Reached", "Ready", "check_possible", "facts_of", "gpus_of", "prepare", "reach", "read_all"]
