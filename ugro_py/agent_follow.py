"""Follow a job that an agent controls: its events as they come, its state whenever one did.

Where the stream of events cannot be had, or is silent, the state is asked for now and then: nothing depends on the
stream but how soon something is shown.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping
from typing import Any

from ugro_py.api.client import Client, connect, job_path
from ugro_py.errors import StateError
from ugro_py.live import Progress

ENDED = ("completed", "failed", "stopped")
# How long an agent may be gone (restarted, say) before following it is given up; the job goes on.
_GONE_S = 60.0
_RETRY_S = 1.0
# A job that trains tells of steps in its metrics, which are no events.
_POLL_RUNNING_S = 1.0
_POLL_S = 5.0
_START_FAILED = "start_failed"


def agent_of(job: str) -> Client:
    """Return the agent.

    Raises:
        StateError: it is gone.
    """
    agent = connect()
    if agent is None:
        raise StateError(f"follow job {job}", "the agent is gone", f"the job goes on; see `ugro status {job}`")
    return agent


def newest_event(agent: Client, job: str) -> int:
    """Return the id of the newest event of a job, 0 where it has none."""
    return max((int(event["id"]) for event in agent.get("/v1/events", job=job, limit=1)), default=0)


class Follow:
    """A job as it goes on.

    Args:
        job: its name; it exists.
        progress: is told what happens.
        after: the event after which to begin.
    """

    def __init__(self, job: str, progress: Progress, after: int = 0) -> None:
        self._job = job
        self._progress = progress
        self._seen = _Seen(progress)
        self._after = after
        self._come: queue.Queue[Mapping[str, Any]] = queue.Queue()
        threading.Thread(target=self._listen, args=(after,), name="events", daemon=True).start()

    def until_started(self) -> dict[str, Any]:
        """Return the state of the job once it waits no more."""
        return self._until(lambda state: state["status"] != "pending")

    def until_ended(self) -> dict[str, Any]:
        """Return the last state of the job.

        Raises:
            StateError: the agent is gone, and stays away.
        """
        state = self._until(lambda state: state["status"] in ENDED)
        for event in agent_of(self._job).get("/v1/events", job=self._job, after=self._after, limit=1000):
            self._tell(event)
        return state

    def _until(self, reached: Any) -> dict[str, Any]:
        gone_since: float | None = None
        while True:
            try:
                state: dict[str, Any] = agent_of(self._job).get(job_path(self._job))
                gone_since = None
            except StateError:
                gone_since = gone_since or time.monotonic()
                if time.monotonic() - gone_since > _GONE_S:
                    raise
                time.sleep(_RETRY_S)
                continue
            self._take_events(0.0)
            self._seen.state(state)
            if reached(state):
                return state
            self._take_events(_POLL_RUNNING_S if state["status"] == "running" else _POLL_S)

    def _take_events(self, timeout_s: float) -> None:
        """Tell of the events that have come; wait for the first one."""
        try:
            self._tell(self._come.get(timeout=timeout_s) if timeout_s else self._come.get_nowait())
            while True:
                self._tell(self._come.get_nowait())
        except queue.Empty:
            return

    def _tell(self, event: Mapping[str, Any]) -> None:
        if event["id"] > self._after:
            self._after = event["id"]
            self._seen.event(event)

    def _listen(self, after: int) -> None:
        while True:
            try:
                for message in agent_of(self._job).events(after=after, job=self._job):
                    after = int(message["id"])
                    self._come.put(message["data"])
            except StateError:
                pass  # whoever waits for the events asks for the state meanwhile
            time.sleep(_RETRY_S)


class _Seen:
    """What was told already."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._status = ""
        self._reason = ""
        self._failed = ""
        self._attempt: int | None = None
        self._ranks: set[tuple[int | None, int]] = set()
        self._steps: dict[int, tuple[int | None, Any]] = {}

    def event(self, event: Mapping[str, Any]) -> None:
        """Tell of an event that `ugro launch` tells of too where it controls the job itself."""
        kind, text = event["kind"], event["text"]
        if kind in ("step", "warning"):
            self._progress(kind, {"text": text})
        elif kind == _START_FAILED:
            self._failed = text
            first, *rest = text.splitlines() or [""]
            self._progress("warning", {"text": first})
            for line in rest:
                self._progress("step", {"text": line})
        elif kind == "node_suspect":
            self._progress("suspect", {"node": event["node"]})

    def state(self, state: Mapping[str, Any]) -> None:
        """Tell what is new in a job's state."""
        reason = state["reason"]
        if state["status"] == "pending" and reason and reason not in (self._reason, self._failed):
            self._reason = reason
            place = {"position": state["queue_position"], "waiting": state["queue_length"]}
            self._progress("waiting", {"reason": reason, **(place if state["queue_position"] else {})})
        if state["status"] == "running" and (self._status, self._attempt) != ("running", state["attempt"]):
            self._progress("running", {"sync_window_s": state["sync_window_s"] or 0.0})
            self._attempt = state["attempt"]
        self._status = state["status"]
        for rank in state["ranks"]:
            self._rank(state["attempt"], rank)

    def _rank(self, attempt: int | None, rank: Mapping[str, Any]) -> None:
        number, line = rank["rank"], rank["metrics"]
        if rank["pid"] and (attempt, number) not in self._ranks:
            self._ranks.add((attempt, number))
            event = {"kind": "rank_started", "rank": number, "pid": rank["pid"]}
            self._progress("event", {"node": rank["node"], "attempt": attempt, "event": event})
        if not line or line.get("attempt", attempt) != attempt:
            return  # what the attempt before told last stands there until this one tells something
        told = (attempt, line.get("step"))
        if told != self._steps.get(number):
            self._steps[number] = told
            event = {**line, "kind": "metrics", "t": time.time()}  # a script may report a `t` of its own
            self._progress("event", {"node": rank["node"], "attempt": attempt, "event": event})
