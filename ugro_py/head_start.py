"""The first moment of `ugro launch`: ask the nodes while the rest of UGRO is still being imported.

The database library alone takes longer to import than three nodes to answer, so neither waits for the other. Only
what is needed to reach nodes is imported before.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from ugro_py import interrupt
from ugro_py.api.client import connect
from ugro_py.cluster import Cluster
from ugro_py.errors import UsageError
from ugro_py.inventory import load_cluster
from ugro_py.ready import Reached, reach
from ugro_py.request.job import JobRequest, check, request_of
from ugro_py.transport import close_all


def launch(inventory: str | None, *, dry_run: bool, detach: bool, no_wait: bool, as_json: bool, **options: Any) -> None:
    """Run `ugro launch` with its options; raises UgroError, or exits with 0."""
    cluster = load_cluster(inventory)
    agent = None if dry_run else connect()
    asked = request_of(cluster, options if agent is None else {**options, "resume": None})
    request = check(asked, ask_hub=not dry_run)
    if no_wait and (request.hold or request.after):
        raise UsageError("--no-wait", "does not go with --hold and --after", "leave one out")
    if request.secret_env and not dry_run:
        from ugro_py import secret_env

        secret_env.keep(request.name, take_secrets(request.secret_env))
    if agent is not None:
        from ugro_py import agent_launch

        how = {"detach": detach, "wait": not no_wait, "as_json": as_json}
        agent_launch.launch(agent, request, options["resume"], **how)
        return
    from ugro_py import users

    cluster = users.cluster_for(cluster, users.me().user)
    # One loop for all of it: the sessions that are opened here are used to the end.
    with asyncio.Runner() as runner:
        try:
            reached = interrupt.run(_reach(request, cluster), runner)
        except asyncio.CancelledError:
            click.echo("\ninterrupted before anything was started", err=True)
            sys.exit(130)
        from ugro_py.launch_cli import launch_command

        try:
            launch_command(
                request, cluster, runner, reached, dry_run=dry_run, detach=detach, wait=not no_wait, as_json=as_json
            )
        finally:
            runner.run(close_all(reached.sessions.values()))


def take_secrets(names: Sequence[str]) -> dict[str, str]:
    """Take secrets out of this process's environment, which every program started from here would inherit."""
    from ugro_py import secret_env

    values = secret_env.from_environment(names)
    for name in values:
        del os.environ[name]
    return values


async def _reach(request: JobRequest, cluster: Cluster) -> Reached:
    importing = asyncio.to_thread(importlib.import_module, "ugro_py.launch_cli")
    reached, _module = await asyncio.gather(reach(request, cluster), importing)
    return reached
