"""`ugro rerun`: a new job like an earlier one."""

from __future__ import annotations

import click

from ugro_py.complete import job_names


@click.command("rerun")
@click.argument("job", shell_complete=job_names)
@click.option("--name", metavar="NAME", help="Name of the new job [default: job_<date>_<time>].")
@click.option("--secret-env", multiple=True, metavar="NAME", help="A secret that the job has, from your environment.")
@click.option("-d", "--detach", is_flag=True, help="Return at once; the job waits and runs in the background.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
@click.pass_obj
def command(
    inventory: str | None, /, job: str, name: str | None, secret_env: tuple[str, ...], detach: bool, as_json: bool
) -> None:
    """Launch a new job with the request and the code of JOB, whatever has become of the files since.

    It starts from the beginning. Data sets and models are read from where they were; that one has changed is said.
    """
    from ugro_py.again_cli import rerun

    rerun(inventory, job, name, secret_env, detach=detach, as_json=as_json)
