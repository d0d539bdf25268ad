"""`ugro launch` where an agent runs: hand it the job and its files, then follow the job through its API."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NoReturn

import click

from ugro_py import secret_env
from ugro_py.agent_follow import ENDED, Follow, agent_of
from ugro_py.api.client import Client, job_path
from ugro_py.errors import AllocationError, JobFailedError, JobStoppedError, UgroError
from ugro_py.live import Progress
from ugro_py.queue import spool, spool_tar
from ugro_py.request.job import NOT_AT_ONCE, JobRequest


def launch(agent: Client, request: JobRequest, resume: str | None, *, detach: bool, wait: bool, as_json: bool) -> None:
    """Submit a checked request and stay with the job to its end.

    Args:
        agent: the agent.
        request: checked, but for `resume`.
        resume: the job to go on from, as a person named it.
        detach: return when the job is in the queue.
        wait: False ends it where the agent's next decision does not start it.
        as_json: print one JSON object at the end.

    Raises:
        UgroError: what the agent says; or how the job ended.
    """
    secrets = secret_env.of(request.name, request.secret_env)
    wanted = replace(request, resume=resume, no_wait=not wait).set_values()
    upload = _upload(agent, request)
    with _interrupt_waits() as interrupted:
        made = agent.submit(wanted, upload, secrets)
    secret_env.forget(request.name)
    job = str(made["job"])
    if not detach:
        if interrupted:
            _detached(job)
        follow(job, as_json=as_json)
        return
    state = agent.get(job_path(job)) if wait else _started(job)
    if as_json:
        told = {key: state[key] for key in ("job", "job_id", "status", "reason")} | {"ranks": len(state["ranks"])}
        click.echo(json.dumps(told))
    else:
        click.echo(f"job {job} is with the agent; `ugro queue`, `ugro status {job}`, `ugro logs {job} -f`")


@contextmanager
def _interrupt_waits() -> Iterator[list[int]]:
    """Note a Ctrl-C while the agent takes the job: it may have it already, and who pressed it is to know.

    A second one ends it.
    """
    came: list[int] = []

    def note(number: int, frame: object) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        yield came  # it is ignored, or somebody else's
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield came
    finally:
        signal.signal(signal.SIGINT, before)


def _upload(agent: Client, request: JobRequest) -> str | None:
    """Send the files of a job; UGRO's own training is there already."""
    if request.script is None and len(spool.wanted(request)) == 1:
        return None
    with tempfile.TemporaryFile() as file:
        spool_tar.pack(spool.read(request), file)
        size = file.tell()
        file.seek(0)
        return agent.upload(file, size)


def _started(job: str) -> dict[str, Any]:
    """Wait until a job that shall not wait has started, or shows that it does not."""
    state = Follow(job, Progress(job, quiet=True)).until_started()
    if state["status"] in ENDED and state["status"] != "completed":
        _raise_how_it_ended(job, state)
    return state


def follow(job: str, *, as_json: bool, after: int = 0) -> None:
    """Show a job until it has ended; Ctrl-C leaves it to the agent. Events up to the id `after` are not shown.

    Raises:
        JobFailedError, JobStoppedError: it did not complete.
        UgroError: it could not be started; as `ugro launch` without an agent.
        StateError: the agent is gone; the job goes on.
    """
    try:
        with Progress(job, quiet=as_json, live=sys.stdout.isatty()) as progress:
            state = Follow(job, progress, after).until_ended()
    except KeyboardInterrupt:
        _detached(job)
    _report(job, state, as_json)


def _detached(job: str) -> NoReturn:
    click.echo(f"\ndetached; job {job} goes on. Back: `ugro status {job}`, `ugro logs {job} -f`", err=True)
    sys.exit(0)


class _NotStartedError(UgroError):
    """What the agent says of a job that could not start: the lines, and the exit code, of `ugro launch` itself."""

    def __init__(self, text: str, exit_code: int) -> None:
        self.exit_code = exit_code
        self._text = text
        super().__init__(text)

    def __str__(self) -> str:
        return self._text


def _raise_how_it_ended(job: str, state: Mapping[str, Any]) -> NoReturn:
    if state["status"] == "stopped" and state["reason"].startswith(NOT_AT_ONCE):
        raise AllocationError(f"start job {job} now", state["reason"], "leave --no-wait out")
    if state["status"] == "stopped":
        raise JobStoppedError(f"job {job}", state["reason"])
    if state["started_at"] is None and state["exit_code"] not in (None, 0, 1, JobFailedError.exit_code):
        raise _NotStartedError(f"job {job}: {state['reason']}", state["exit_code"])
    raise JobFailedError(f"job {job}", state["reason"], f"see `ugro logs {job}` and {state['folder']}")


def _report(job: str, state: Mapping[str, Any], as_json: bool) -> None:
    """Say how the job ended, as `ugro launch` does without an agent."""
    rank = state["first_failed_rank"]
    lines: list[str] = []
    if state["status"] == "failed" and rank is not None:
        text = b"".join(agent_of(job).read(job_path(job, "logs"), rank=rank, tail=12, form="terminal"))
        lines = text.decode(errors="replace").splitlines()
    if as_json:
        known = {key: state[key] for key in ("job", "job_id", "status", "reason", "exit_code", "first_failed_rank")}
        click.echo(json.dumps({**known, "last_lines": lines, "folder": state["folder"]}))
    if state["status"] == "completed":
        if not as_json:
            click.echo(f"job {job} completed; results in {state['folder']}; `ugro results {job}`")
        return
    for line in [] if as_json else lines:
        click.echo(f"  | {line}", err=True)
    _raise_how_it_ended(job, state)
