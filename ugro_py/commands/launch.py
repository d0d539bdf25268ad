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
@click.option(
    "--gpus", metavar="N|GB..", help="Number of GPUs in all, or their memory: 2, 24GB.., 2x8GB..16GB [default: all]."
)
@click.option("--min-nodes", type=int, metavar="N", help="With how few nodes a retry may go on if some are lost.")
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
    "--secret-env",
    multiple=True,
    metavar="NAME",
    help="Variable of your environment, for the ranks alone; never kept.",
)
@click.option(
    "--resume", metavar="JOB|PATH", help="Go on from this job's newest checkpoint, or from a checkpoint here."
)
@click.option("--retry", type=int, metavar="N", help="Attempts after a failed one [default: the inventory's].")
@click.option("--priority", metavar="P", help="urgent, normal, batch or 0 to 100; higher goes first [normal].")
@click.option("--after", multiple=True, metavar="JOB", help="Start once this job has completed; fail if it fails.")
@click.option("--hold", is_flag=True, help="Join the queue but do not start until `ugro queue release`.")
@click.option("--time-limit", metavar="T", help="Stop the job when it has run so long: 2h30m, 90m or seconds.")
@click.option("--stall-timeout", type=float, default=0, metavar="S", help="Stop when no rank writes for S seconds.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Give the job this tag, as `ugro results tag` does.")
@click.option("--note", metavar="TEXT", help="Keep TEXT as the note of the job, as `ugro results note` does.")
@click.option("--dry-run", is_flag=True, help="Show nodes, ranks, GPUs and commands; start nothing.")
@click.option("--no-wait", is_flag=True, help="Refuse (exit code 6) instead of waiting for GPUs that are not free.")
@click.option("-d", "--detach", is_flag=True, help="Return as soon as every node has started its ranks, or it waits.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def command(inventory: str | None, /, **options: Any) -> None:
    """Train on the nodes: verify them, allocate GPUs and ranks, start torchrun everywhere at once, follow, collect.

    When the GPUs are not free, or others go first, the job waits in the queue. ARGS after `--` go to the training
    script. Ctrl-C detaches; the job goes on, or goes on waiting.
    """
    from ugro_py.head_start import launch

    launch(inventory, **options)
