"""`ugro top --once`: the cluster now, as tables."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from ugro_py.top import look, widgets


def show(found: Mapping[str, Any]) -> None:
    """Print what `ugro_py.now.snapshot` returns."""
    nodes = [cells for node in found["nodes"] for cells in widgets.node_rows(node).values()]
    _print(nodes, look.NODE_COLUMNS, look.NODES_NEED)
    click.echo()
    if found["jobs"]:
        _print([widgets.job_row(job) for job in widgets.in_order(found["jobs"])], look.JOB_COLUMNS, look.JOBS_NEED)
    else:
        click.echo("No jobs yet. Start one with `ugro launch`.")


def _print(rows: Collection[Mapping[str, Text]], columns: Sequence[str], needs: Mapping[str, int]) -> None:
    if sys.stdout.isatty():
        console = Console()
        # A table ends without the space behind its last column.
        console.print(widgets.table(rows, look.fitting(rows, columns, needs, console.width + 2)))
    else:
        # In a pipe nothing is cut or wrapped: the reader is a program.
        Console(width=1000).print(widgets.table(rows, columns))
