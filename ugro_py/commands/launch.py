"""`ugro launch`: train on the nodes."""

from __future__ import annotations

from typing import Any

import click

from ugro_py.complete import node_names


@click.command("launch", context_settings={"ignore_unknown_options": False})
@click.option("--model", metavar="NAME", help="Preset, local folder or hub id [default: the inventory's].")
@click.option(
    "--dataset", metavar="NAME", help="python-docs, a text/jsonl/parquet file or folder, or a hub name [inventory's]."
)
@click.option("--epochs", type=int, metavar="N", help="Passes over the data [default: the inventory's].")
@click.option("--name", metavar="NAME", help="Name of the job [default: job_<date>_<time>].")
@click.option("--nodes", type=int, metavar="N", help="Number of nodes [default: all].")
@click.option("--gpus", type=int, metavar="N", help="Number of GPUs in all [default: all of the nodes].")
@click.option(
    "--include",
    multiple=True,
    metavar="NODE[:GPU,…]",
    shell_complete=node_names,
    help="Only this node, or these GPUs of it.",
)
@click.option(
    "--exclude",
    multiple=True,
    metavar="NODE[:GPU,…]",
    shell_complete=node_names,
    help="Not this node, or not these GPUs of it.",
)
@click.option("--batch-size", type=int, metavar="N", help="Sequences per GPU and forward pass.")
@click.option("--gradient-accumulation", type=int, metavar="N", help="Forward passes per step.")
@click.option("--script", metavar="PATH", help="Run this torchrun program instead of UGRO's training.")
@click.option("--workdir", metavar="DIR", help="Folder to copy to the nodes [default: the script's].")
@click.option("--env", multiple=True, metavar="NAME=VALUE", help="Environment variable for every rank.")
@click.option(
    "--resume", metavar="JOB|PATH", help="Go on from this job's newest checkpoint, or from a checkpoint here."
)
@click.option("--retry", type=int, default=0, show_default=True, metavar="N", help="Attempts after a failed one.")
@click.option("--stall-timeout", type=float, default=0, metavar="S", help="Stop when no rank writes for S seconds.")
@click.option("--dry-run", is_flag=True, help="Show nodes, ranks, GPUs and commands; start nothing.")
@click.option("-d", "--detach", is_flag=True, help="Return as soon as every node has started its ranks.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def command(inventory: str | None, /, **options: Any) -> None:
    """Train on the nodes: verify them, allocate GPUs and ranks, start torchrun everywhere at once, follow, collect.

    ARGS after `--` go to the training script. Ctrl-C detaches; the job goes on.
    """
    from ugro_py.head_start import launch

    launch(inventory, **options)
