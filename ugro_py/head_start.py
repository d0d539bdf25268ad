"""The first moment of `ugro launch`: ask the nodes while the rest of UGRO is still being imported.

The database library alone takes longer to import than three nodes to answer, so neither waits for the other. Only
what is needed to reach nodes is imported before.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from typing import Any

import click

from ugro_py import interrupt
from ugro_py.cluster import Cluster
from ugro_py.inventory import load_cluster
from ugro_py.ready import Reached, reach
from ugro_py.request import JobRequest, check, request_of
from ugro_py.transport import close_all


def launch(inventory: str | None, *, dry_run: bool, detach: bool, as_json: bool, **options: Any) -> None:
    """Run `ugro launch` with its options; raises UgroError, or exits with 0."""
    cluster = load_cluster(inventory)
    request = check(request_of(cluster, options), ask_hub=not dry_run)
    # One loop for all of it: the sessions that are opened here are used to the end.
    with asyncio.Runner() as runner:
        try:
            reached = interrupt.run(_reach(request, cluster), runner)
        except asyncio.CancelledError:
            click.echo("\ninterrupted before anything was started", err=True)
            sys.exit(130)
        from ugro_py.launch_cli import launch_command

        try:
            launch_command(request, cluster, runner, reached, dry_run=dry_run, detach=detach, as_json=as_json)
        finally:
            runner.run(close_all(reached.sessions.values()))


async def _reach(request: JobRequest, cluster: Cluster) -> Reached:
    importing = asyncio.to_thread(importlib.import_module, "ugro_py.launch_cli")
    reached, _module = await asyncio.gather(reach(request, cluster), importing)
    return reached
