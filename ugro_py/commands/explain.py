"""`ugro explain`: why a job failed, waits, or does what it does."""

from __future__ import annotations

import click

from ugro_py.complete import job_names


@click.command("explain")
@click.argument("job", shell_complete=job_names)
@click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="This attempt [default: the newest].")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(job: str, attempt: int | None, as_json: bool) -> None:
    """Say why JOB failed: which rank was first, the cause, the lines that show it, and what to do.

    Of a job that has not failed it says what it waits for, or whether it makes progress.
    """
    import json

    from ugro_py.api.client import connect, job_path

    client = connect(reading=True)
    if client is not None:
        answer = client.get(job_path(job, "explain"), attempt=attempt)
        click.echo(json.dumps(answer["explanation"], indent=2) if as_json else "\n".join(answer["lines"]))
        return
    from ugro_py.explain.classify import explain
    from ugro_py.explain.facts import gather
    from ugro_py.explain.report import lines
    from ugro_py.reconcile import reconcile
    from ugro_py.state import Store

    with Store.open() as store:
        store.job(job)
        reconcile(store, job)
        found = explain(gather(store, job, attempt))
    click.echo(json.dumps(found.as_json(), indent=2) if as_json else "\n".join(lines(found)))
