"""Shell completion of node and job names. Errors mean no suggestions: a completion must never print."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from ugro_py.errors import UgroError


def node_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a node of the inventory."""
    from ugro_py.inventory import load_cluster

    try:
        cluster = load_cluster(ctx.find_root().params.get("inventory"))
    except UgroError:
        return []
    return [
        CompletionItem(node.name, help=node.gpu or node.address)
        for node in cluster.nodes
        if node.name.startswith(incomplete)
    ]


def job_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a job, newest first."""
    from ugro_py.state import Store

    try:
        with Store.open() as store:
            jobs = store.jobs(limit=200)
    except UgroError:
        return []
    return [CompletionItem(job.name, help=job.status) for job in jobs if job.name.startswith(incomplete)]
