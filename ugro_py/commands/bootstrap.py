"""`ugro bootstrap`: prepares nodes for training."""

from __future__ import annotations

import click

from ugro_py.complete import node_names


@click.command()
@click.argument("nodes", nargs=-1, metavar="[NODE]...", shell_complete=node_names)
@click.option("--check", is_flag=True, help="Only show what would change.")
@click.option("-v", "--verbose", is_flag=True, help="Show Ansible's own output.")
@click.pass_obj
def command(inventory: str | None, nodes: tuple[str, ...], check: bool, verbose: bool) -> None:
    """Prepare nodes for training: Python with torch, rsync, folders, lingering.

    Nodes that are ready are not changed. Without NODE all nodes of the inventory are prepared.
    """
    from ugro_py.bootstrap import bootstrap

    bootstrap(inventory, nodes, check=check, verbose=verbose)
