"""Runs playbooks/bootstrap.yml on nodes and shows what happens on each."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from ugro_py.inventory import load_cluster
from ugro_py.runner import Event, RunResult, run_playbook


class Board:
    """One line a node: what it is doing, then how it ended."""

    def __init__(self, nodes: Sequence[str], *, check: bool) -> None:
        self._now = dict.fromkeys(nodes, "waiting")
        self._changes: dict[str, list[str]] = {node: [] for node in nodes}
        self._done: set[str] = set()
        self.check = check

    def __call__(self, event: Event) -> None:
        """Take an event of the run."""
        if event.kind == "task":
            for node in self._now:
                if node not in self._done:
                    self._now[node] = event.task
        elif event.host in self._now:
            if event.kind == "changed":
                self._changes[event.host].append(event.task)
            elif event.kind == "unreachable":
                self._done.add(event.host)

    def changes(self, node: str) -> list[str]:
        """Return the tasks that changed the node, or in check mode would."""
        return list(dict.fromkeys(self._changes[node]))

    def finish(self, result: RunResult) -> None:
        """Replace what a node was doing by how it ended."""
        for node in self._now:
            failures = [failure for failure in result.failures if failure.host == node]
            changes = "; ".join(self.changes(node))
            if failures:
                self._now[node] = f"[red]failed[/red]: {escape(failures[-1].message)}"
            elif node not in result.stats:
                self._now[node] = "[yellow]not reached[/yellow]: the run ended before"
            elif changes:
                self._now[node] = ("would change: " if self.check else "[green]ready[/green]: ") + changes
            else:
                self._now[node] = "[green]ready[/green], nothing to change"

    def __rich__(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for node, text in self._now.items():
            table.add_row(node, text)
        return table


def bootstrap(inventory: str | None, nodes: Sequence[str], *, check: bool, verbose: bool) -> None:
    """Prepare nodes for training and print a line for each.

    Args:
        inventory: as `load_cluster` takes it.
        nodes: names of nodes; empty means all.
        check: change nothing.
        verbose: print Ansible's own output as well.

    Raises:
        InventoryError, NotFoundError: the inventory is not valid, or has no such node.
        NodeError: a node could not be prepared; the text is the first failure.
    """
    cluster = load_cluster(inventory)
    chosen = [cluster.node(name).name for name in nodes] or [node.name for node in cluster.nodes]
    board = Board(chosen, check=check)
    console = Console(highlight=False)
    live = Live(board, console=console, refresh_per_second=8, transient=True)
    with live if console.is_terminal and not verbose else nullcontext():
        result = run_playbook(
            "bootstrap",
            inventory=cluster.source,
            limit=chosen if nodes else None,
            check=check,
            on_event=board,
            quiet=not verbose,
        )
    board.finish(result)
    console.print(board)
    result.raise_for_failure("bootstrap")
