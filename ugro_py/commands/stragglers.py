"""`ugro stragglers`: which rank the others wait for, and why."""

from __future__ import annotations

import click

from ugro_py.complete import job_names


@click.command()
@click.argument("job", shell_complete=job_names)
@click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="This attempt [default: the newest].")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(job: str, attempt: int | None, as_json: bool) -> None:
    """Say where the time of JOB's steps goes, rank by rank, and which node the others wait for."""
    import json
    from typing import Any

    from ugro_py.api.client import connect, job_path

    client = connect(reading=True)
    if client is not None:
        answer: dict[str, Any] = client.get(job_path(job, "stragglers"), attempt=attempt)
    else:
        from ugro_py.reconcile import reconcile
        from ugro_py.state import Store
        from ugro_py.stragglers import told

        with Store.open() as store:
            store.job(job)
            reconcile(store, job)
            answer = told(job, store, attempt)
    if as_json:
        click.echo(json.dumps(answer["report"], indent=2))
        return
    from ugro_py.stragglers.words import print_table

    print_table(answer["report"]["ranks"])
    for line in answer["lines"]:
        click.echo(line)
