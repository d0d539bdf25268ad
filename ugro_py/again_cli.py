"""What `ugro resume` and `ugro rerun` do around `ugro_py.again`: through the agent where one runs, else here."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Any

import click

from ugro_py import again, secret_env, users
from ugro_py.audit import audited_here
from ugro_py.head_start import take_secrets
from ugro_py.inventory import load_cluster
from ugro_py.launch import check_new
from ugro_py.launch_cli import follow_here, report
from ugro_py.live import Progress
from ugro_py.queue import spool, submit
from ugro_py.queue.enter import own_group
from ugro_py.queue.wait import wait_and_run
from ugro_py.reconcile import hand_over, reconcile
from ugro_py.request import options
from ugro_py.state import Controller, JobRow, Store


def resume(
    inventory: str | None,
    job: str,
    secrets: Sequence[str],
    *,
    time_limit: str | None = None,
    detach: bool,
    as_json: bool,
) -> None:
    """Run `ugro resume`: the job waits for its turn and goes on from its newest checkpoint; raises UgroError."""
    limit_s = options.time_limit(time_limit)
    from ugro_py.agent_follow import newest_event
    from ugro_py.api.client import connect, job_path

    agent = connect()
    if agent is not None:
        values, after = secret_env.from_environment(secrets), newest_event(agent, job)
        agent.post(job_path(job, "resume"), {"secrets": values} | _given(time_limit_s=limit_s))
        _follow_agent(job, after, detach=detach, as_json=as_json)
        return
    values = take_secrets(secrets)
    with Store.open() as store:
        store.job(job)
        reconcile(store, job)
        me = Controller.me()
        with audited_here(store, "resume", job):
            row = again.reopen(store, job, me, values, limit_s)
        _wait(store, row, inventory, me, detach=detach, as_json=as_json)


def rerun(
    inventory: str | None, job: str, name: str | None, secrets: Sequence[str], *, detach: bool, as_json: bool
) -> None:
    """Run `ugro rerun`: a new job with the request and the code of an earlier one; raises UgroError."""
    from ugro_py.api.client import connect, job_path

    agent = connect()
    if agent is not None:
        values = secret_env.from_environment(secrets)
        made = agent.post(job_path(job, "rerun"), {"secrets": values} | _given(name=name))
        _follow_agent(str(made["job"]), 0, detach=detach, as_json=as_json)
        return
    with Store.open() as store:
        reconcile(store)
        user, group, me = users.me().user, own_group(), Controller.me()
        with audited_here(store, "rerun", job):
            request = again.request_again(store, job, name, secrets)
            check_new(store, request)
            secret_env.keep(request.name, take_secrets(secrets))
            submit.check(store, request, user, group)
            row = submit.keep(store, load_cluster(inventory), request, user, me, spool.copy(job), group)
        _wait(store, row, inventory, me, detach=detach, as_json=as_json)


def _given(**values: Any) -> dict[str, Any]:
    """Return the values that are given: an agent that is older than a value refuses who sends it."""
    return {key: value for key, value in values.items() if value is not None}


def _wait(store: Store, row: JobRow, inventory: str | None, me: Controller, *, detach: bool, as_json: bool) -> None:
    """Wait for the turn of a job that this process controls, and stay with it."""
    job = row.name
    if detach:
        hand_over(store, job, me)
        say_detached(job, store.job(job).status, as_json)
        return
    progress = Progress(job, quiet=as_json, live=sys.stdout.isatty())
    with asyncio.Runner() as runner:
        work = wait_and_run(store, load_cluster(inventory), row, me, progress)
        report(follow_here(store, job, me, work, runner, progress), job, as_json)


def _follow_agent(job: str, after: int, *, detach: bool, as_json: bool) -> None:
    from ugro_py.agent_launch import follow

    if detach:
        say_detached(job, "pending", as_json)
    else:
        follow(job, as_json=as_json, after=after)


def say_detached(job: str, status: str, as_json: bool) -> None:
    """Say that a job was left to others."""
    if as_json:
        click.echo(json.dumps({"job": job, "job_id": job, "status": status}))
    else:
        click.echo(f"job {job} is in the queue; `ugro queue`, `ugro status {job}`, `ugro logs {job} -f`")
