"""`ugro resume`: go on with a job that ended too early."""

from __future__ import annotations

import click

from ugro_py.complete import job_names


@click.command("resume")
@click.argument("job", shell_complete=job_names)
@click.option("--secret-env", multiple=True, metavar="NAME", help="A secret that the job has, from your environment.")
@click.option("--time-limit", metavar="T", help="How long it may run from here on: 2h30m, 90m or seconds.")
@click.option("-d", "--detach", is_flag=True, help="Return at once; the job waits and runs in the background.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
@click.pass_obj
def command(
    inventory: str | None,
    /,
    job: str,
    secret_env: tuple[str, ...],
    time_limit: str | None,
    detach: bool,
    as_json: bool,
) -> None:
    """Put JOB back into the queue: it goes on from its newest complete checkpoint, under its own name.

    For a job that failed or was stopped. It runs the code it was submitted with, as its next attempt; metrics and logs
    of earlier attempts stay. Its time limit counts all its attempts; where it is used up, give more with --time-limit.
    For other code or options: `ugro launch --resume JOB`.
    """
    from ugro_py.again_cli import resume

    resume(inventory, job, secret_env, time_limit=time_limit, detach=detach, as_json=as_json)
