"""`ugro health`: one line for each node."""

from __future__ import annotations

import click


@click.command()
@click.option("-w", "--watch", is_flag=True, help="Go on and show what changes, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with --watch one object a line.")
@click.pass_obj
def command(inventory: str | None, watch: bool, as_json: bool) -> None:
    """Show the health of every node: one line for each, and one for each thing that is wrong.

    Who has no store of their own is shown what the agent knows; with `-i` the nodes of that inventory are asked.

    Exits with 4 if a node cannot be reached, with 5 if one is not fit for training.
    """
    import json
    import sys

    from ugro_py.api.client import connect
    from ugro_py.inventory import load_cluster

    client = connect(reading=True) if inventory is None else None
    if client is not None:
        from ugro_py.health import told
        from ugro_py.verify import raise_for

        if watch:
            from ugro_py.health.live import watch_told

            watch_told(client, click.echo, as_json=as_json, terminal=sys.stdout.isatty())
            return
        found = told.told(client)
        click.echo(json.dumps(told.as_json(found), indent=2) if as_json else "\n".join(told.lines(found)))
        raise_for(told.verdict_of(found), "health")
        return

    cluster = load_cluster(inventory)
    if watch:
        from ugro_py.health.live import watch as watch_nodes

        watch_nodes(cluster, click.echo, as_json=as_json, terminal=sys.stdout.isatty())
        return
    import importlib

    from ugro_py.readings import report_all

    reports = report_all(cluster.nodes, meanwhile=lambda: importlib.import_module("ugro_py.health.now"))

    from ugro_py.health.known import known_nodes
    from ugro_py.health.now import as_json as data_of
    from ugro_py.health.now import lines
    from ugro_py.verify import judge, raise_for

    verdict = judge(cluster.nodes, reports, cluster.settings.health_thresholds)
    known = known_nodes(cluster)
    click.echo(json.dumps(data_of(verdict, *known), indent=2) if as_json else "\n".join(lines(verdict, *known)))
    raise_for(verdict, "health")
