"""`ugro launch` where an agent runs: hand it the job and its files, then follow the job through its API."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any

import click

from ugro_py import secret_env
from ugro_py.api.client import Client, connect, job_path
from ugro_py.errors import AllocationError, JobFailedError, JobStoppedError, StateError
from ugro_py.live import Progress
from ugro_py.queue import spool, spool_tar
from ugro_py.request import JobRequest

_POLL_S = 0.5
_AT_ONCE_S = 5.0
# How long an agent may be gone (restarted, say) before following it is given up; the job goes on.
_GONE_S = 60.0
_ENDED = ("completed", "failed", "stopped")


def launch(agent: Client, request: JobRequest, resume: str | None, *, detach: bool, wait: bool, as_json: bool) -> None:
    """Submit a checked request and stay with the job to its end.

    Args:
        agent: the agent.
        request: checked, but for `resume`.
        resume: the job to go on from, as a person named it.
        detach: return when the job is in the queue.
        wait: False takes it out of the queue again if it does not start at once.
        as_json: print one JSON object at the end.

    Raises:
        UgroError: what the agent says; or how the job ended.
    """
    secrets = secret_env.of(request.name, request.secret_env)
    made = agent.submit(request.as_dict() | {"resume": resume}, _upload(agent, request), secrets)
    secret_env.forget(request.name)
    job = str(made["job"])
    if not wait:
        _start_or_cancel(agent, job)
    if not detach:
        follow(job, as_json=as_json)
        return
    state = agent.get(job_path(job))
    if as_json:
        told = {key: state[key] for key in ("job", "job_id", "status", "reason")} | {"ranks": len(state["ranks"])}
        click.echo(json.dumps(told))
    else:
        click.echo(f"job {job} is with the agent; `ugro queue`, `ugro status {job}`, `ugro logs {job} -f`")


def _upload(agent: Client, request: JobRequest) -> str | None:
    """Send the files of a job; UGRO's own training is there already."""
    if request.script is None and len(spool.wanted(request)) == 1:
        return None
    with tempfile.TemporaryFile() as file:
        spool_tar.pack(spool.read(request), file)
        size = file.tell()
        file.seek(0)
        return agent.upload(file, size)


def _start_or_cancel(agent: Client, job: str) -> None:
    deadline = time.monotonic() + _AT_ONCE_S
    while (state := agent.get(job_path(job)))["status"] == "pending":
        if time.monotonic() > deadline:
            agent.post(job_path(job, "cancel"))
            raise AllocationError(f"start job {job} now", state["reason"], "leave --no-wait out")
        time.sleep(_POLL_S / 2)


def follow(job: str, *, as_json: bool) -> None:
    """Show a job until it has ended; Ctrl-C leaves it to the agent.

    Raises:
        JobFailedError, JobStoppedError: it did not complete.
        StateError: the agent is gone; the job goes on.
    """
    try:
        with Progress(job, quiet=as_json, live=sys.stdout.isatty()) as progress:
            state = _watch(job, progress)
    except KeyboardInterrupt:
        click.echo(f"\ndetached; job {job} goes on. Back: `ugro status {job}`, `ugro logs {job} -f`", err=True)
        sys.exit(0)
    _report(job, state, as_json)


def _watch(job: str, progress: Progress) -> dict[str, Any]:
    """Tell `progress` what the agent says, until the job has ended; return its last state."""
    seen = _Seen()
    gone_since: float | None = None
    while True:
        try:
            state: dict[str, Any] = _agent(job).get(job_path(job))
            gone_since = None
        except StateError:
            gone_since = gone_since or time.monotonic()
            if time.monotonic() - gone_since > _GONE_S:
                raise
            time.sleep(1.0)
            continue
        seen.tell(state, progress)
        if state["status"] in _ENDED:
            return state
        time.sleep(_POLL_S)


def _agent(job: str) -> Client:
    agent = connect()
    if agent is None:
        raise StateError(f"follow job {job}", "the agent is gone", f"the job goes on; see `ugro status {job}`")
    return agent


class _Seen:
    """What was told already."""

    def __init__(self) -> None:
        self._status = ""
        self._reason = ""
        self._attempt: int | None = None
        self._ranks: set[tuple[int | None, int]] = set()
        self._steps: dict[int, Any] = {}

    def tell(self, state: Mapping[str, Any], progress: Progress) -> None:
        """Tell `progress` what is new in a job's state."""
        if state["status"] == "pending" and state["reason"] and state["reason"] != self._reason:
            self._reason = state["reason"]
            place = {"position": state["queue_position"], "waiting": state["queue_length"]}
            progress("waiting", {"reason": self._reason, **(place if state["queue_position"] else {})})
        if state["status"] != self._status and state["status"] in ("starting", "collecting"):
            nodes = ", ".join(state["gpu_nodes"])
            text = f"starting on {nodes}" if state["status"] == "starting" else "collecting results"
            progress("step", {"text": text})
        if state["status"] == "running" and (self._status, self._attempt) != ("running", state["attempt"]):
            progress("running", {"sync_window_s": state["sync_window_s"] or 0.0})
            self._attempt = state["attempt"]
        self._status = state["status"]
        for rank in state["ranks"]:
            key = (state["attempt"], rank["rank"])
            if rank["pid"] and key not in self._ranks:
                self._ranks.add(key)
                event = {"kind": "rank_started", "rank": rank["rank"], "pid": rank["pid"]}
                progress("event", {"node": rank["node"], "event": event})
            line = rank["metrics"]
            if line and line.get("step") != self._steps.get(rank["rank"]):
                self._steps[rank["rank"]] = line.get("step")
                progress("event", {"node": rank["node"], "event": {"kind": "metrics", "t": time.time(), **line}})


def _report(job: str, state: Mapping[str, Any], as_json: bool) -> None:
    """Say how the job ended, as `ugro launch` does without an agent."""
    rank = state["first_failed_rank"]
    lines: list[str] = []
    if state["status"] == "failed" and rank is not None:
        text = b"".join(_agent(job).read(job_path(job, "logs"), rank=rank, tail=12, form="terminal"))
        lines = text.decode(errors="replace").splitlines()
    if as_json:
        known = {key: state[key] for key in ("job", "job_id", "status", "reason", "exit_code", "first_failed_rank")}
        click.echo(json.dumps({**known, "last_lines": lines, "folder": state["folder"]}))
    if state["status"] == "completed":
        if not as_json:
            click.echo(f"job {job} completed; results in {state['folder']}; `ugro results {job}`")
        return
    if state["status"] == "stopped":
        raise JobStoppedError(f"job {job}", state["reason"])
    for line in [] if as_json else lines:
        click.echo(f"  | {line}", err=True)
    raise JobFailedError(f"job {job}", state["reason"], f"see `ugro logs {job}` and {state['folder']}")
