"""`ugro events`: what happened on the cluster."""

from __future__ import annotations

import json

import click

from ugro_py.complete import job_names, node_names


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens from now on, until Ctrl-C.")
@click.option("--job", metavar="JOB", shell_complete=job_names, help="Only events of this job.")
@click.option("--node", metavar="NODE", shell_complete=node_names, help="Only events of this node.")
@click.option(
    "--severity", type=click.Choice(["info", "warning", "error"]), default="info", help="Only this severity and worse."
)
@click.option("--since", metavar="AGE|TIME", help="Only since then: 90s, 30m, 1h, 2d, or a time in UTC.")
@click.option(
    "-n", "limit", type=click.IntRange(min=0), metavar="N",
    help="At most the newest N [default: 100; all with --since].",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def command(
    follow: bool, job: str | None, node: str | None, severity: str, since: str | None, limit: int | None, as_json: bool
) -> None:
    """Show what happened, oldest first; with -f go on as it happens."""
    from ugro_py import events
    from ugro_py.api.client import connect

    client = connect(reading=True)
    if client is not None:
        asked = {"job": job, "node": node, "severity": severity, "since": since}
        for line in events.over(client, limit if limit is not None else 10_000 if since else 100, follow, asked):
            click.echo(json.dumps(line) if as_json else events.line_of(events.from_json(line)))
        return
    from ugro_py.state import Store

    wanted = {"job": job, "node": node, "severity": severity, "since": events.since(since) if since else None}
    count = limit if limit is not None else 1_000_000 if since else 100
    with Store.open() as store:
        reached = store.newest_event()
        for event in events.newest(store, count, **wanted):
            reached = max(reached, event.id)
            click.echo(events.line_of(event, as_json))
        if follow:
            for event in events.follow(store, reached, **wanted):
                click.echo(events.line_of(event, as_json))
