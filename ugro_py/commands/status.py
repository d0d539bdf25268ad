"""`ugro status`: one job, its ranks and its progress."""

from __future__ import annotations

import click

from ugro_py.complete import job_names


@click.command("status")
@click.argument("job", shell_complete=job_names)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def command(inventory: str | None, /, job: str, as_json: bool) -> None:
    """Show JOB: state, its place in the queue, ranks, newest loss, and the events that led here.

    If the process that followed it was killed, a new one takes over first, so that what is shown is true.
    """
    import json

    from ugro_py.api.client import connect, job_path
    from ugro_py.status import render, status_of

    client = connect(reading=True)
    if client is not None:
        status = client.get(job_path(job))
    else:
        from ugro_py.inventory import load_cluster
        from ugro_py.reconcile import reconcile
        from ugro_py.state import Store

        with Store.open() as store:
            store.job(job)
            reconcile(store, job)
            cluster = load_cluster(inventory) if store.job(job).status == "pending" else None
            status = status_of(store, job, cluster)
    if as_json:
        click.echo(json.dumps(status, indent=2))
    else:
        render(status)
