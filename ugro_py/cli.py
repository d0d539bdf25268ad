"""The command `ugro`. Each verb lives in `ugro_py/commands/<verb>.py` and is imported only when used."""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import sys
from typing import Any

import click

from ugro_py import __version__
from ugro_py.errors import StateError, UgroError

# verb -> (module under ugro_py.commands, help shown in `ugro --help` without importing it)
VERBS: dict[str, tuple[str, str]] = {
    "launch": ("launch", "Train on the nodes: verify, allocate, start, follow, collect."),
    "top": ("top", "Show nodes, GPUs and jobs live, with curves; keys for logs and stop."),
    "ps": ("ps", "List jobs."),
    "status": ("status", "Show one job: state, ranks, progress."),
    "logs": ("logs", "Show or follow the logs of a job's ranks."),
    "explain": ("explain", "Say why a job failed, waits or stands still."),
    "stop": ("stop", "Stop a job on every node and release its GPUs."),
    "resume": ("resume", "Go on with a failed or stopped job from its newest checkpoint."),
    "rerun": ("rerun", "Launch a new job with the request and code of an earlier one."),
    "queue": ("queue", "Show the jobs that wait for GPUs, and change their order."),
    "results": ("results", "Show what a job achieved, with its loss curve; list, tag and annotate experiments."),
    "compare": ("compare", "Show experiments side by side: figures, cost, and in what they differ."),
    "plot": ("plot", "Draw curves of experiments as PNG, SVG or one HTML file."),
    "export": ("export", "Write experiments as CSV, Parquet, JSON or into MLflow."),
    "tensorboard": ("tensorboard", "Start TensorBoard over the event files of jobs."),
    "stragglers": ("stragglers", "Say which node the others wait for, and why."),
    "worth": ("worth", "Predict a job's step time without each of its nodes; measure the network."),
    "dashboard": ("dashboard", "Open the dashboard in a browser: the cluster and the experiments."),
    "pull": ("pull", "Copy a job's results to a folder."),
    "check": ("check", "Verify that nodes are ready to train."),
    "health": ("health", "Show the health of every node."),
    "events": ("events", "Show what happened on the cluster, or follow it."),
    "alerts": ("alerts", "List alerts and test where they go."),
    "nodes": ("nodes", "List, add and remove nodes of the inventory."),
    "state": ("state", "Print the state of the cluster."),
    "agent": ("agent", "Keep the cluster running: follow jobs, run the queue, watch nodes, serve the API."),
    "bootstrap": ("bootstrap", "Prepare nodes for training (runs playbooks/bootstrap.yml)."),
    "users": ("users", "Show and set roles and quotas of users and groups; who did what."),
    "usage": ("usage", "Show what users, groups and jobs used of the GPUs."),
    "drill": ("drill", "Break a job on purpose and measure how it recovers."),
    "completion": ("completion", "Print the shell completion script."),
}


class LazyGroup(click.Group):
    """A group that imports a verb's module only when that verb is used, to start fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"ugro_py.commands.{VERBS[cmd_name][0]}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb, on the master if one is named: then nothing of it is looked at here."""
        master, inventory = ctx.params.get("master"), ctx.params.get("inventory")
        words = [*ctx._protected_args, *ctx.args]
        if not master or words[:1] == ["completion"]:
            try:
                return super().invoke(ctx)
            except BrokenPipeError:  # the reader (`head`, say) has enough; click would exit with 1
                _discard_output()
                ctx.exit(0)
        from ugro_py.master import run

        given = ctx.get_parameter_source("inventory") is click.core.ParameterSource.COMMANDLINE
        sys.exit(run(master, [*(["-i", inventory] if given and inventory else []), *words]))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(verb, text) for verb, (_, text) in VERBS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ugro")
@click.option(
    "-i",
    "--inventory",
    envvar="UGRO_INVENTORY",
    metavar="PATH",
    help="Inventory file or folder [default: ~/.config/ugro/inventory, else this machine alone].",
)
@click.option(
    "--master",
    envvar="UGRO_MASTER",
    metavar="USER@HOST",
    help="Run the verb on this machine over SSH, with the rights one has there; paths are paths there.",
)
@click.option("--until-eof", is_flag=True, hidden=True, help="End as by Ctrl-C when standard input ends.")
@click.pass_context
def cli(ctx: click.Context, inventory: str | None, master: str | None, until_eof: bool) -> None:
    """Turn GPU machines reachable by SSH into one training platform."""
    ctx.obj = inventory
    if until_eof:
        from ugro_py.master import until_eof as watch

        watch()


def _discard_output() -> None:
    """Forget what is left in the buffer: it could not be written, and Python must not complain of it again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _one_line(error: click.ClickException) -> str:
    """Return what is wrong with the command line, and where its options are listed, as all other errors are told."""
    path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "ugro"
    return f"{' '.join(error.format_message().split()).rstrip('.')}; see `{path} --help`"


def main(argv: list[str] | None = None) -> Any:
    """Run `ugro` and exit: 0, or the exit code of the error (docs/exit-codes.md)."""
    # At exit Python looks twice through all objects for cycles to free, longer than some verbs take altogether. The
    # kernel frees them as well.
    atexit.register(gc.freeze)
    # And it would look through all that was imported, and stays, after each 700 objects more.
    gc.set_threshold(20_000)
    try:
        cli.main(args=argv, prog_name="ugro", standalone_mode=False)
    except UgroError as error:
        click.echo(f"ugro: {error}", err=True)
        sys.exit(error.exit_code)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        click.echo(f"ugro: {_one_line(error)}", err=True)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except OSError as error:
        _discard_output()
        where = error.filename or "output"
        click.echo(f"ugro: {where}: {error.strerror or error}; make room or correct it, then try again", err=True)
        sys.exit(StateError.exit_code)
    sys.exit(0)
