"""What is known of a running attempt: its ranks and nodes, as their events tell. Pure: events in, facts out."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from ugro_py import endings


@dataclass
class RankState:
    """One rank. Times are in seconds since 1970 by the controller's clock."""

    rank: int
    node: str
    status: str = "starting"
    pid: int | None = None
    exit_code: int | None = None
    signal: str | None = None
    started_at: float | None = None
    ended_at: float | None = None
    last_lines: list[str] = field(default_factory=list)
    step: int | None = None


@dataclass
class Failure:
    """Why a gang failed: the earliest event that says so.

    `kind` is rank, torchrun, node (lost), gpu (lost), frozen, stalled, or told: a node was told by an earlier
    controller that something else had failed.
    """

    at: float
    text: str
    rank: int | None = None
    node: str | None = None
    exit_code: int | None = None
    last_lines: list[str] = field(default_factory=list)
    kind: str = "rank"


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended.

    `status` is completed, failed, stopped or preempted (it made room for a more urgent job); of a job also pending: it
    waits in the queue (again).
    """

    status: str
    reason: str = ""
    exit_code: int = 0
    failure: Failure | None = None
    lost_nodes: tuple[str, ...] = ()
    last_lines: list[str] = field(default_factory=list)

    @classmethod
    def told(cls, end: endings.Ending, lost_nodes: tuple[str, ...] = ()) -> Outcome:
        """Return how an attempt ended whose nodes were told to end."""
        failure = Failure(time.time(), end.text, kind=end.kind) if end.kind else None
        return cls(end.status, end.text, end.exit_code, failure, lost_nodes)


class GangState:
    """Facts of one attempt, built from the events of its nodes.

    Args:
        ranks: global rank -> node.
    """

    def __init__(self, ranks: dict[int, str]) -> None:
        self.ranks = {rank: RankState(rank, node) for rank, node in ranks.items()}
        self.nodes = list(dict.fromkeys(ranks.values()))
        self.finished: dict[str, dict[str, Any]] = {}
        self.lost: dict[str, str] = {}
        self.stopping: dict[str, str] = {}  # node -> what it was told, or why it stopped by itself
        self.failures: list[Failure] = []
        self.frozen: dict[int, float] = {}  # ranks that are stopped by a signal, and since when
        self.lost_gpus: dict[str, str] = {}  # UUID -> node
        # Whether the controller has asked the nodes to stop; a node that stops unasked has failed.
        self.stop_asked = False

    def apply(self, node: str, event: dict[str, Any], clock_offset_s: float) -> None:
        """Take in one event of `node`, whose clock is ahead by `clock_offset_s`."""
        kind = event["kind"]
        at = float(event["t"]) - clock_offset_s
        handler = getattr(self, f"_on_{kind}", None)
        if handler:
            handler(node, event, at)

    def _on_rank_started(self, node: str, event: dict[str, Any], at: float) -> None:
        rank = self.ranks[event["rank"]]
        rank.status, rank.pid, rank.started_at = "running", event["pid"], at

    def _on_metrics(self, node: str, event: dict[str, Any], at: float) -> None:
        rank = self.ranks.get(event["rank"])
        if rank and isinstance(event.get("step"), int):
            rank.step = event["step"]

    def _on_rank_exited(self, node: str, event: dict[str, Any], at: float) -> None:
        rank = self.ranks[event["rank"]]
        rank.exit_code, rank.signal, rank.ended_at = event["exit_code"], event["signal"], at
        rank.last_lines = event["last_lines"]
        # After "stopping" a rank ends because it was told to.
        told = node in self.stopping
        rank.status = "completed" if rank.exit_code == 0 else "stopped" if told else "failed"
        if rank.status == "failed":
            code = "an unknown exit code" if rank.exit_code is None else f"exit code {rank.exit_code}"
            how = f"was killed by {rank.signal}" if rank.signal else f"ended with {code}"
            text = f"rank {rank.rank} on {node} {how}"
            self.failures.append(Failure(at, text, rank.rank, node, rank.exit_code, rank.last_lines))

    def _on_rank_frozen(self, node: str, event: dict[str, Any], at: float) -> None:
        if event["rank"] in self.ranks:
            self.frozen[event["rank"]] = at - float(event.get("seconds") or 0.0)

    def _on_rank_moves(self, node: str, event: dict[str, Any], at: float) -> None:
        self.frozen.pop(event["rank"], None)

    def _on_gpu_lost(self, node: str, event: dict[str, Any], at: float) -> None:
        rank = event.get("rank")
        self.lost_gpus[event["uuid"]] = node
        text = f"GPU {event['uuid']} of rank {rank} on {node} was lost"
        self.failures.append(Failure(at, text, rank, node, kind="gpu"))

    def rank_stands_still(self, number: int) -> None:
        """Take a rank that is stopped by a signal for a failure of the gang."""
        rank = self.ranks[number]
        text = f"rank {number} on {rank.node} stands still: it was stopped by a signal (SIGSTOP) and not woken"
        self.failures.append(Failure(self.frozen[number], text, number, rank.node, kind="frozen"))

    def _on_stopping(self, node: str, event: dict[str, Any], at: float) -> None:
        self.stopping[node] = str(event.get("reason") or "")

    def _on_finished(self, node: str, event: dict[str, Any], at: float) -> None:
        self.finished[node] = event
        if any(failure.node == node for failure in self.failures):
            return
        code = event["exit_code"]
        if node in self.stopping and (self.stop_asked or endings.ending(self.stopping[node])):
            return  # it was told to, from here or by the controller before
        if node in self.stopping:
            text = f"the ranks on {node} were stopped: {event.get('stop_reason') or 'nobody knows why'}"
            kind = "told" if self.stopping[node] == endings.FAILED else "node"
            self.failures.append(Failure(at, text, None, node, code or 1, kind=kind))
        elif code:
            text = f"torchrun on {node} ended with exit code {code}"
            self.failures.append(Failure(at, text, None, node, code, kind="torchrun"))

    def node_lost(self, node: str, why: str, at: float) -> None:
        """Note that a node, or the supervisor on it, is gone for good."""
        if node in self.lost or node in self.finished:
            return
        self.lost[node] = why
        for rank in self.ranks.values():
            if rank.node == node and rank.status in ("starting", "running"):
                rank.status = "lost"
        first = next((rank.rank for rank in self.ranks.values() if rank.node == node), None)
        self.failures.append(Failure(at, f"node {node} was lost: {why}", first, node, kind="node"))

    @property
    def first_failure(self) -> Failure | None:
        """The failure that happened first; the others mostly follow from it."""
        return min(self.failures, key=lambda failure: (failure.kind == "told", failure.at), default=None)

    @property
    def told(self) -> str | None:
        """What the nodes were told, now or by an earlier controller, that ends the attempt by itself; else None."""
        return next(filter(endings.ending, self.stopping.values()), None)

    @property
    def step(self) -> int | None:
        """The last step that any rank told of."""
        return max((rank.step for rank in self.ranks.values() if rank.step is not None), default=None)

    @property
    def sync_window_s(self) -> float | None:
        """Seconds between the start of the first rank and of the last; None until all have started."""
        starts = [rank.started_at for rank in self.ranks.values()]
        known = [start for start in starts if start is not None]
        return round(max(known) - min(known), 3) if len(known) == len(starts) else None

    @property
    def over(self) -> bool:
        """Whether no node has anything left to do."""
        return all(node in self.finished or node in self.lost for node in self.nodes)
