"""`ugro check`: everything that a launch would verify, node by node."""

from __future__ import annotations

import click

from ugro_py.complete import node_names


@click.command()
@click.argument("node", required=False, shell_complete=node_names)
@click.option("--deep", is_flag=True, help="Also import torch, compute, and run an all-reduce across the nodes.")
@click.option("--fix", is_flag=True, help="First repair what can be: versions, clock, lingering, folders, host name.")
@click.option("--diff", is_flag=True, help="With --fix: change nothing, show what would be changed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with all readings.")
@click.pass_obj
def command(inventory: str | None, node: str | None, deep: bool, fix: bool, diff: bool, as_json: bool) -> None:
    """Verify that NODE, or every node, is ready to train.

    Exits with 4 if a node cannot be reached, with 5 if a launch would fail.
    """
    import gc
    import importlib
    import json

    gc.disable()  # what is imported stays: looking through it for garbage again and again only takes time
    from ugro_py.errors import NodeError
    from ugro_py.inventory import load_cluster
    from ugro_py.readings import report_all

    gc.enable()
    cluster = load_cluster(inventory)
    nodes = [cluster.node(node)] if node else list(cluster.nodes)
    if fix or diff:
        from ugro_py.health.repair import repair

        for line in repair(cluster, [each.name for each in nodes], only_show=diff):
            click.echo(line, err=as_json)
    reports = report_all(nodes, meanwhile=lambda: importlib.import_module("ugro_py.verify"), fresh=deep)

    from ugro_py.verify import judge, raise_for

    verdict = judge(nodes, reports, cluster.settings.health_thresholds)
    if deep:
        from ugro_py.deep import deep_findings

        verdict = verdict.plus(deep_findings(nodes, reports))
    if as_json:
        data = verdict.as_json()
        for name, entry in data["nodes"].items():
            report = reports[name]
            entry["report"] = None if isinstance(report, NodeError) else report
        click.echo(json.dumps(data, indent=2))
    else:
        click.echo("\n".join(verdict.lines(everything=True)))
    raise_for(verdict, "check")
