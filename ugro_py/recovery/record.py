"""What the state store has to know of an attempt's events, written at the moment they arrive."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from ugro_py.gang import GangState
from ugro_py.plan import Gang
from ugro_py.state import Store
from ugro_py.state.later import Later

Listener = Callable[[str, Mapping[str, Any]], None]


class Recorder:
    """Writes ranks, the attempt and events of one attempt to the store.

    Args:
        store: the state store.
        later: takes the writes: a database that is away must not keep anybody from following the ranks.
        gang: the attempt.
        state: its facts, which the event has been applied to already.
        listener: told of "running".
    """

    def __init__(self, store: Store, later: Later, gang: Gang, state: GangState, listener: Listener) -> None:
        self._store = store
        self._later = later
        self._gang = gang
        self._state = state
        self._listener = listener
        self._running_told = False
        # Events of the store that an earlier controller wrote of this attempt; of what is new there are none.
        self._known: set[tuple[str, int | None, Any]] = set()

    async def replay(self) -> None:
        """Prepare for events that an earlier controller may have recorded: those are not recorded twice.

        Raises:
            StateError: the database cannot be used.
        """
        events = await self._store.patiently(self._store.events, self._gang.job, limit=1000)
        self._known = {(event.kind, event.rank, (event.data or {}).get("attempt")) for event in events}

    def replayed(self) -> None:
        """Note that what comes from now on is new."""
        self._known = set()

    def _is_known(self, kind: str, number: int | None) -> bool:
        return (kind, number, self._gang.attempt) in self._known

    def take(self, node: str, event: Mapping[str, Any]) -> None:
        """Record one event of a node."""
        kind = event["kind"]
        if kind in ("rank_started", "rank_exited"):
            self._rank(event["rank"])
        if kind == "rank_started":
            self._running()
        elif kind == "rank_frozen":
            text = f"rank {event['rank']} on {node} is stopped by a signal, since {event['seconds']:g} s"
            self._event(kind, text, node, event)
        elif kind == "rank_idle" and self._state.step is not None:
            # Before the first step a rank may well wait: for a download, or for the others to import torch.
            text = f"rank {event['rank']} on {node} has not computed or written anything for {event['seconds']:g} s"
            self._event(kind, text, node, event)
        elif kind == "rank_moves":
            self._event(kind, f"rank {event['rank']} on {node} goes on", node, event, "info")
        elif kind == "gpu_lost":
            if not self._is_known(kind, event.get("rank")):
                self._later.write(self._store.gpu_is_gone, event["uuid"])  # at once: the next sweep is seconds away
            self._event(kind, f"GPU {event['uuid']} on {node} does not answer any more", node, event, "error")

    def _rank(self, number: int) -> None:
        rank = self._state.ranks[number]
        code = rank.exit_code
        self._later.write(
            self._store.set_rank, self._gang.job, self._gang.attempt, number, status=rank.status, pid=rank.pid,
            exit_code=code, signal=-code if code is not None and code < 0 else None,
        )  # fmt: skip
        if rank.status == "failed" and not self._is_known("rank_failed", number):
            how = f"was killed by {rank.signal}" if rank.signal else f"ended with exit code {code}"
            last = next((line for line in reversed(rank.last_lines) if line.strip()), "")
            data = {"exit_code": code, "signal": rank.signal, "last_line": last[:500], "ended_at": rank.ended_at}
            text = f"rank {number} on {rank.node} {how}"
            self._later.write(
                self._store.add_event, "rank_failed", text, job=self._gang.job, node=rank.node, rank=number,
                severity="error", data=data | {"attempt": self._gang.attempt},
            )  # fmt: skip

    def _running(self) -> None:
        window = self._state.sync_window_s
        if window is None or self._running_told:
            return
        self._running_told = True
        job = self._gang.job
        self._later.write(self._store.set_attempt, job, self._gang.attempt, status="running", sync_window_s=window)
        self._later.write(self._job_runs, job)
        self._later.then(self._listener, "running", {"sync_window_s": window})

    def _job_runs(self, job: str) -> None:
        if self._store.job(job).status == "starting":
            self._store.set_job(job, "running")

    def _event(self, kind: str, text: str, node: str, event: Mapping[str, Any], severity: str = "warning") -> None:
        if self._is_known(kind, event.get("rank")):
            return
        values = {key: value for key, value in event.items() if key not in ("kind", "t")}
        self._later.write(
            self._store.add_event, kind, text, job=self._gang.job, node=node, rank=event.get("rank"), severity=severity,
            data=values | {"attempt": self._gang.attempt, "at": event["t"]},
        )  # fmt: skip

    def following(self, had_reason: bool) -> None:
        """Record that this process follows the attempt; whoever waits for that finds what came before recorded."""
        job, data = self._gang.job, {"pid": os.getpid()}
        if had_reason:  # why it could not be followed for a while
            self._later.write(self._store.note_reason, job, "")
        self._later.write(self._store.add_event, "following", "following the ranks", job=job, data=data)

    def failed_first(self, rank: int | None) -> None:
        """Record which rank failed first."""
        self._later.write(self._store.set_attempt, self._gang.job, self._gang.attempt, first_failed_rank=rank)

    def left_over(self, node: str, count: int) -> None:
        """Record that processes of the attempt could not be ended."""
        self._tell("left_over", f"{node}: {count} processes could not be ended", node, "error")

    def suspect(self, node: str) -> None:
        """Record that a node fell silent."""
        self._tell("node_suspect", f"{node} fell silent", node, "warning")

    def back(self, node: str) -> None:
        """Record that it answers again."""
        self._tell("node_back", f"{node} answers again", node, "info")

    def lost(self, node: str, why: str) -> None:
        """Record that it was given up, and its ranks with it."""
        self._tell("node_lost", f"{node}: {why}", node, "error")
        for rank in self._state.ranks.values():
            if rank.node == node and rank.status == "lost":
                self._later.write(
                    self._store.set_rank, self._gang.job, self._gang.attempt, rank.rank, status="lost"
                )  # fmt: skip

    def logs(self, kind: str, text: str) -> None:
        """Record what becomes of logs that are too long, or for which there is no room."""
        self._later.write(self._store.add_event, kind, text, job=self._gang.job, severity="warning")

    def _tell(self, kind: str, text: str, node: str, severity: str) -> None:
        self._later.write(self._store.add_event, kind, text, job=self._gang.job, node=node, severity=severity)
