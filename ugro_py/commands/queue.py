"""`ugro queue`: the jobs that wait for GPUs, and their order."""

from __future__ import annotations

from typing import Any

import click

from ugro_py.complete import job_names


@click.group("queue", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Show the jobs that wait, why, and change their order; alone as `ugro queue ls`."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(ls, as_json=as_json)


@command.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def ls(inventory: str | None, as_json: bool = False) -> None:
    """List the jobs that wait, first in line first, and what each waits for."""
    from ugro_py.queue.doors import listed

    jobs = listed(inventory)
    if as_json:
        import json

        click.echo(json.dumps(jobs, indent=2))
    elif not jobs:
        click.echo("No job waits.")
    else:
        from ugro_py.state.tables import print_queue

        print_queue(jobs)


def _change(job: str, done: str, same: str, verb: str, **values: Any) -> None:
    from ugro_py.queue.doors import change

    click.echo(f"job {job} {done}" if change(job, verb, **values) else f"job {job} {same}")


@command.command("hold")
@click.argument("job", shell_complete=job_names)
def hold(job: str) -> None:
    """Keep JOB from starting until it is released."""
    _change(job, "held", "was held already", "hold")


@command.command("release")
@click.argument("job", shell_complete=job_names)
def release(job: str) -> None:
    """Let JOB start when its turn comes."""
    _change(job, "released", "was not held", "release")


@command.command("cancel")
@click.argument("job", shell_complete=job_names)
def cancel(job: str) -> None:
    """Take JOB out of the queue for good."""
    _change(job, "cancelled", "had ended already", "cancel")


@command.command("priority")
@click.argument("job", shell_complete=job_names)
@click.argument("priority", metavar="urgent|normal|batch|0..100")
def priority(job: str, priority: str) -> None:
    """Give JOB another priority; higher goes first."""
    from ugro_py.request.options import priority as number

    value = number(priority)
    _change(job, f"has priority {value}", f"had priority {value} already", "priority", priority=value)


@command.command("move")
@click.argument("job", shell_complete=job_names)
@click.argument("place", metavar="first|last|before")
@click.argument("other", required=False, shell_complete=job_names)
def move(job: str, place: str, other: str | None) -> None:
    """Move JOB to the first or last place, or before the job OTHER, among the jobs of its user and priority.

    Turns of other users' jobs stay as they are: to go ahead of them, a job needs a higher priority.
    """
    if place not in ("first", "last", "before") or (place == "before") != (other is not None):
        raise click.UsageError("say `first`, `last` or `before JOB`")
    to = None if place == "before" else place
    where = f"moved before {other}" if other else f"moved {place} among the jobs of its user and priority"
    _change(job, where, "was there already", "move", to=to, before=other)
