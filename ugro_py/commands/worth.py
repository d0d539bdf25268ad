"""`ugro worth`: how fast the network between nodes is, and whether a job is better off without one of them."""

from __future__ import annotations

import click

from ugro_py.complete import job_names


@click.command()
@click.argument("job", required=False, shell_complete=job_names)
@click.option("--measure", is_flag=True, help="Measure the network anew, even while a job uses it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(inventory: str | None, job: str | None, measure: bool, as_json: bool) -> None:
    """Predict JOB's step time with and without each of its nodes; without JOB, measure between all nodes.

    The network is measured pair by pair for about a second each way, and what was measured is kept for 30 days.
    """
    import json

    from ugro_py.inventory import load_cluster
    from ugro_py.worth import cli

    say = lambda text: click.echo(text, err=True)  # noqa: E731
    if job is None:
        links, troubles = cli.measured(list(load_cluster(inventory).nodes), say)
        if as_json:
            click.echo(json.dumps(cli.links_json(links, troubles), indent=2))
        else:
            click.echo("\n".join(cli.links_lines(links, troubles)))
        return
    found = cli.of_job(job, lambda: load_cluster(inventory), measure, say)
    click.echo(json.dumps(found.to_json(), indent=2) if as_json else "\n".join(cli.lines(found)))
