"""`ugro top --once`: the cluster now, as tables."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from ugro_py.top.widgets import jobs_table, nodes_table


def show(found: Mapping[str, Any]) -> None:
    """Print what `ugro_py.now.snapshot` returns."""
    # In a pipe nothing is cut or wrapped: the reader is a program.
    console = Console() if sys.stdout.isatty() else Console(width=1000)
    console.print(nodes_table(found["nodes"]))
    console.print()
    if found["jobs"]:
        console.print(jobs_table(found["jobs"]))
    else:
        console.print("No jobs yet. Start one with `ugro launch`.", markup=False, highlight=False)
