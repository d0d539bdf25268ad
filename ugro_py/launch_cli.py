"""What `ugro launch` does around the engine: options to a request, progress on the terminal, detach, exit code."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine, Mapping
from typing import Any

import click

from ugro_py import dry_run as dry
from ugro_py import interrupt, users
from ugro_py.cluster import Cluster
from ugro_py.display import counted, safe_line
from ugro_py.errors import JobFailedError, JobStoppedError
from ugro_py.gang import Outcome
from ugro_py.launch import Launcher, check_new
from ugro_py.live import Progress
from ugro_py.paths import JobPaths
from ugro_py.queue.enter import enter, run_or_wait
from ugro_py.ready import Reached
from ugro_py.reconcile import hand_over, reconcile
from ugro_py.request.job import JobRequest
from ugro_py.ssh import shell_line
from ugro_py.state import Controller, JobRow, Store
from ugro_py.transport import close_all


def launch_command(
    request: JobRequest,
    cluster: Cluster,
    runner: asyncio.Runner,
    reached: Reached,
    *,
    dry_run: bool,
    detach: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Run `ugro launch` of a checked request, on nodes whose sessions live in the loop of `runner`."""
    with Store.open() as store:
        reconcile(store)
        check_new(store, request)
        progress = Progress(request.name, quiet=as_json, live=sys.stdout.isatty() and not (dry_run or detach))
        user = users.me().user
        launcher = Launcher(request, cluster, store, user, progress, reached=reached, may_wait=wait)
        if dry_run:
            from ugro_py.queue.forecast_doors import ask_forecast  # the scheduler, which a launch here may do without

            said = ask_forecast(store, cluster, request, user)
            _show(runner.run(dry.plan_in_turn(launcher, said, wait)), as_json)
        elif detach:
            _detach(launcher, runner, reached, wait, as_json)
        else:
            work = run_or_wait(launcher, reached, wait=wait)
            report(follow_here(store, request.name, launcher.controller, work, runner, progress), request.name, as_json)


def _show(plan: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(plan, indent=2))
        return
    if "ranks" in plan:
        _show_ranks(plan)
    for key, what in (("would_fail", "would fail"), ("would_wait", "would wait in the queue")):
        if plan[key]:
            click.echo(f"a launch {what}: {plan[key]}")
            break
    click.echo("dry run: nothing was started")


def _show_ranks(plan: Mapping[str, Any]) -> None:
    turn = ", if its turn were now" if plan["would_wait"] or plan["would_fail"] else ""
    click.echo(f"job {plan['job_id']}: {counted(plan['world_size'], 'rank')}, master {plan['master']}{turn}")
    for rank in plan["ranks"]:
        memory = f" ({rank['vram_gb']:g} GB)" if rank["vram_gb"] else ""
        click.echo(f"  rank {rank['rank']}  {rank['node']}  {rank['gpu_name']}{memory}  {rank['gpu']}")
    for name, commands in plan["commands"].items():
        for words in commands:
            click.echo(f"on {name}:\n  {shell_line(words)}")
    for line in plan["blockers"]:
        click.echo(f"a launch would be refused: {line}")


def _detach(launcher: Launcher, runner: asyncio.Runner, reached: Reached, wait: bool, as_json: bool) -> None:
    """Start the job, or have it wait, and leave it to a process in the background."""

    async def start() -> int:
        begun = await enter(launcher, reached, wait=wait)
        if isinstance(begun, JobRow):
            await close_all(reached.sessions.values())
            return 0
        ready, gang = begun
        await close_all(ready.sessions.values())
        return gang.world_size

    job = launcher.request.name
    ranks = runner.run(start())
    hand_over(launcher.store, job, launcher.controller)
    row = launcher.store.job(job)
    if as_json:
        told = {"job": job, "job_id": job, "status": row.status, "ranks": ranks}
        click.echo(json.dumps(told | ({} if ranks else {"reason": row.reason})))
    elif ranks:
        click.echo(f"job {job} runs; `ugro status {job}`, `ugro logs {job} -f`, `ugro stop {job}`")
    else:
        click.echo(f"job {job} waits in the queue; `ugro queue`, `ugro status {job}`, `ugro stop {job}`")


def follow_here(
    store: Store,
    job: str,
    controller: Controller,
    work: Coroutine[Any, Any, Outcome],
    runner: asyncio.Runner,
    progress: Progress,
) -> Outcome:
    """Run a job in the foreground; Ctrl-C leaves it, waiting or running, to a process in the background."""
    try:
        with progress:
            return interrupt.run(work, runner)
    except asyncio.CancelledError:
        row = next((row for row in store.jobs(active=True) if row.name == job), None)
        if row is None:
            click.echo("\ninterrupted before anything was started", err=True)
            sys.exit(130)
        hand_over(store, job, controller)
        if row.status == "pending":
            click.echo(f"\ndetached; job {job} stays in the queue. Back: `ugro queue`, `ugro status {job}`", err=True)
        else:
            click.echo(f"\ndetached; job {job} goes on. Back: `ugro status {job}`, `ugro logs {job} -f`", err=True)
        sys.exit(0)


def report(outcome: Outcome, job: str, as_json: bool) -> None:
    """Say how a job ended; a failed or stopped job is an error with its exit code."""
    if as_json:
        click.echo(
            json.dumps(
                {
                    "job": job,
                    "job_id": job,
                    "status": outcome.status,
                    "reason": outcome.reason,
                    "exit_code": outcome.exit_code,
                    "first_failed_rank": outcome.failure.rank if outcome.failure else None,
                    "last_lines": outcome.last_lines,
                    "folder": str(JobPaths(job).root),
                }
            )
        )
    if outcome.status == "completed":
        if not as_json:
            click.echo(f"job {job} completed; results in {JobPaths(job).root}; `ugro results {job}`")
        return
    if outcome.status == "stopped":
        raise JobStoppedError(f"job {job}", outcome.reason)
    if not as_json:
        for line in outcome.last_lines[-12:]:
            click.echo(f"  | {safe_line(line)}", err=True)
    raise JobFailedError(f"job {job}", outcome.reason, f"see `ugro logs {job}` and {JobPaths(job).root}")
