"""`ugro stop`: stop a job on every node."""

from __future__ import annotations

import click

from ugro_py.complete import job_names


@click.command("stop")
@click.argument("job", shell_complete=job_names)
@click.option("--force", is_flag=True, help="SIGKILL at once instead of 10 s to save what the ranks need.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(job: str, force: bool, as_json: bool) -> None:
    """Stop JOB on every node and release its GPUs; what it has achieved so far is collected.

    The ranks get SIGTERM, and SIGKILL after 10 s. Stopping a job that has ended changes nothing.
    """
    import json

    from ugro_py.api.client import connect
    from ugro_py.stop import stop_job, stop_over

    client = connect()
    if client is not None:
        status, changed = stop_over(client, job, force=force)
    else:
        from ugro_py.state import Store

        with Store.open() as store:
            row, changed = stop_job(store, job, force=force)
            status = row.status
    if as_json:
        click.echo(json.dumps({"job": job, "job_id": job, "status": status, "changed": changed}))
    elif changed:
        click.echo(f"job {job} {status}")
    else:
        click.echo(f"job {job} had ended already ({status})")
