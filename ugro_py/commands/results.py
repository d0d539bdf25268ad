"""`ugro results`: what a job achieved."""

from __future__ import annotations

import click

from ugro_py.complete import job_names


@click.command()
@click.argument("job", shell_complete=job_names)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--width", type=click.IntRange(40, 500), metavar="N", help="Columns of the curve [default: the terminal's]."
)
def command(job: str, as_json: bool, width: int | None) -> None:
    """Show what JOB achieved: loss, throughput, time, GPU use, checkpoint, and its loss curve."""
    from ugro_py import results
    from ugro_py.api.client import connect, job_path

    client = connect(reading=True)
    if client is not None:
        found = results.from_json(**client.get(job_path(job, "results")))
    else:
        from ugro_py.reconcile import reconcile
        from ugro_py.state import Store

        with Store.open() as store:
            store.job(job)
            reconcile(store, job)
            found = results.summary(job, store)
    if as_json:
        import json

        click.echo(json.dumps(found.to_json(), indent=2))
        return

    from ugro_py.results_text import text

    click.echo(text(found, width))
