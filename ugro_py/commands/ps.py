"""`ugro ps`: the list of jobs."""

from __future__ import annotations

import click


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="List every job, not only the last few that ended.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(everything: bool, as_json: bool) -> None:
    """List jobs: those that have not ended, and the last few that have."""
    from ugro_py.api.client import connect

    client = connect(reading=True)
    if client is not None:
        jobs = client.jobs(everything=everything)
    else:
        from ugro_py.reconcile import reconcile
        from ugro_py.state import Store
        from ugro_py.state.views import job_list

        with Store.open() as store:
            reconcile(store)
            jobs = job_list(store, everything=everything)
    if as_json:
        import json

        click.echo(json.dumps(jobs, indent=2))
        return
    if not jobs:
        click.echo("No jobs yet. Start one with `ugro launch`.")
        return

    from ugro_py.state.tables import print_jobs

    print_jobs(jobs)
