"""`ugro health`: one line for each node."""

from __future__ import annotations

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(inventory: str | None, as_json: bool) -> None:
    """Show the health of every node: one line for each, and one for each thing that is wrong.

    Exits with 4 if a node cannot be reached, with 5 if one is not fit for training.
    """
    import json

    from ugro_py.inventory import load_cluster
    from ugro_py.readings import report_all
    from ugro_py.verify import judge, raise_for

    cluster = load_cluster(inventory)
    verdict = judge(cluster.nodes, report_all(cluster.nodes))
    click.echo(json.dumps(verdict.as_json(), indent=2) if as_json else "\n".join(verdict.lines()))
    raise_for(verdict, "health")
