"""`ugro nodes`: the machines of the cluster."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ugro_py.complete import node_names

if TYPE_CHECKING:
    from ugro_py.cluster import Node
    from ugro_py.hostkeys import HostKey


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """List, add and remove nodes of the inventory; keep new jobs away from one."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(ls, as_json=as_json)


@command.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def ls(inventory: str | None, as_json: bool = False) -> None:
    """List the nodes, as the inventory describes them, and the state that the last health sweep left them in.

    Who has no store of their own is shown the nodes of the agent's inventory, unless `-i` names another.
    """
    from ugro_py.api.client import connect
    from ugro_py.health.known import known_nodes, shown, why
    from ugro_py.inventory import load_cluster

    client = connect(reading=True) if inventory is None else None
    if client is not None:
        from ugro_py.health.told import listing

        _show(listing(client), as_json)
        return
    cluster = load_cluster(inventory)
    rows, busy = known_nodes(cluster)
    states = {node.name: shown(rows.get(node.name), node.name in busy) for node in cluster.nodes}
    from dataclasses import asdict

    nodes = [{**asdict(node), "state": states[node.name], "drain": why(rows.get(node.name))} for node in cluster.nodes]
    _show({"cluster": cluster.name, "source": str(cluster.source), "nodes": nodes}, as_json)


def _show(listing: dict[str, Any], as_json: bool) -> None:
    if as_json:
        import json

        click.echo(json.dumps(listing, indent=2))
        return
    _print(listing)
    for node in listing["nodes"]:
        if node["drain"]:
            click.echo(f"{node['name']}: {node['drain']}")


def _print(listing: dict[str, Any]) -> None:
    rows = [("NODE", "STATE", "ROLE", "ADDRESS", "GPU", "GPUS", "VRAM", "CPU SLOTS")]
    for node in listing["nodes"]:
        user = f"{node['user']}@" if node["user"] else ""
        port = f":{node['port']}" if node["port"] != 22 else ""
        where = f"{node['address']} (local)" if node["connection"] == "local" else f"{user}{node['address']}{port}"
        vram = f"{node['vram_gb']:g} GB" if node["vram_gb"] else "-"
        count = "-" if node["gpu_count"] is None else str(node["gpu_count"])
        known = (node["name"], node["state"], node["role"], where, node["gpu"] or "-", count, vram, str(node["slots"]))
        rows.append(known)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        click.secho(line, bold=number == 0)
    click.secho(f"\n{listing['cluster']}: {listing['source']}", dim=True)


@command.command()
@click.argument("name")
@click.option("--address", required=True, metavar="HOST", help="Address or host name that the other nodes reach.")
@click.option("--user", help="User to log in as [default: as ssh does].")
@click.option("--port", type=int, help="SSH port [default: as ssh does].")
@click.option("--key", metavar="FILE", help="Private key to log in with [default: as ssh does].")
@click.option("--ssh-args", metavar="ARGS", help="Further options of ssh, such as '-o ProxyJump=door'.")
@click.option("--role", type=click.Choice(["worker", "master"]), help="[default: worker]")
@click.option("--gpu", metavar="NAME", help="Name of its GPUs [default: read from the node].")
@click.option("--gpu-count", type=int, help="How many GPUs it has [default: read from the node].")
@click.option("--vram", type=float, metavar="GB", help="Memory of each GPU [default: read from the node].")
@click.option("--slots", type=int, help="CPU ranks it takes while it has no GPU [default: 1].")
@click.option("--python", metavar="PATH", help="Python of the node for modules [default: /usr/bin/python3].")
@click.option("--train-python", metavar="PATH", help="Python that has torch [default: ~/.ugro/venv/bin/python].")
@click.option("--node-dir", metavar="PATH", help="Folder of UGRO on the node [default: ~/.ugro].")
@click.option("--fingerprint", metavar="SHA256:…", help="Demand this host key; do not ask.")
@click.option("--yes", is_flag=True, help="Trust the host key that is shown; do not ask.")
@click.pass_obj
def add(inventory: str | None, /, name: str, fingerprint: str | None, yes: bool, **options: Any) -> None:
    """Add a machine: pin its host key, read its GPUs, write it to the inventory.

    Without an inventory of your own this starts one, with this machine as the master.
    """
    from ugro_py.nodes import add_node

    def confirm(node: Node, key: HostKey) -> None:
        click.echo(f"{node.name} ({node.address}) shows a host key that is not known here:")
        click.echo(f"  {key.fingerprint} ({key.type})")
        click.echo("To compare, run on the machine itself: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub")
        _agree(yes, "Trust this key and add the node?", "--yes or --fingerprint SHA256:…")

    added = add_node(inventory, name, options, confirm, fingerprint)
    node = added.node
    if added.pinned_in:
        click.echo(f"Pinned the host key in {added.pinned_in}")
    for note in added.notes:
        click.echo(f"Note: {note}")
    vram = f" with {node.vram_gb:g} GB" if node.vram_gb else ""
    has = f"{node.gpu_count} x {node.gpu or 'GPU'}{vram}" if node.gpu_count else f"no GPU, CPU slots: {node.slots}"
    start = "Started your inventory" if added.new_file else "Added to"
    click.echo(f"{start} {added.file}: {node.name} ({has})")
    click.echo(f"Next: `ugro bootstrap` prepares it, `ugro check {node.name}` tells whether it is ready.")


@command.command()
@click.argument("name", shell_complete=node_names)
@click.option("--reason", default="", help="Why, for those who wonder.")
@click.pass_obj
def drain(inventory: str | None, name: str, reason: str) -> None:
    """Keep new jobs away from a node; what runs there goes on to its end."""
    from ugro_py.health.drains import drain as drain_node
    from ugro_py.inventory import load_cluster

    news = drain_node(load_cluster(inventory), name, reason)
    click.echo(f"Drained {name}" if news else f"{name} was drained already")


@command.command()
@click.argument("name", shell_complete=node_names)
@click.pass_obj
def resume(inventory: str | None, name: str) -> None:
    """Let jobs onto a node again, whoever drained it: you, or the health sweep."""
    from ugro_py.health.drains import resume as resume_node
    from ugro_py.inventory import load_cluster

    news = resume_node(load_cluster(inventory), name)
    click.echo(f"Resumed {name}" if news else f"{name} was not drained")


@command.command()
@click.argument("name", shell_complete=node_names)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def rm(inventory: str | None, name: str, yes: bool) -> None:
    """Remove a node from the inventory; nothing on the machine itself is changed."""
    from ugro_py.nodes import remove_node

    def confirm(node: Node, file: Path) -> None:
        _agree(yes, f"Remove {node.name} ({node.address}) from {file}?", "--yes")

    file = remove_node(inventory, name, confirm)
    click.echo(f"Removed {name} from {file}")


def _agree(yes: bool, question: str, option: str) -> None:
    """Return if the user agrees; where nobody can be asked, an option must say so."""
    if yes:
        return
    if not sys.stdin.isatty():
        from ugro_py.errors import UsageError

        raise UsageError(question, "nobody to ask: input is not a terminal", f"give {option}")
    click.confirm(question, abort=True)
