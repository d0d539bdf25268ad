"""`ugro check --fix`: runs playbooks/repair.yml and says for each node what it changed and what it could not."""

from __future__ import annotations

from collections.abc import Sequence

from ugro_py.bootstrap import Board
from ugro_py.cluster import Cluster
from ugro_py.runner import RunResult, run_playbook


def repair(cluster: Cluster, nodes: Sequence[str], *, only_show: bool) -> list[str]:
    """Repair what can be repaired without asking, and return a line for each node and for each file that differs.

    What cannot be repaired is a line too, and no error: the check that follows decides.

    Args:
        cluster: whose inventory is used.
        nodes: names of nodes.
        only_show: change nothing, and say what would be changed.

    Raises:
        StateError, UsageError: the playbook cannot be run at all.
    """
    board = Board(nodes, check=only_show)
    result = run_playbook(
        "repair",
        inventory=cluster.source,
        limit=list(nodes),
        check=only_show,
        diff=only_show,
        on_event=board,
        quiet=True,
    )
    return [*_told(result, board, nodes), *_differences(result, nodes)]


def _told(result: RunResult, board: Board, nodes: Sequence[str]) -> list[str]:
    lines = []
    for node in nodes:
        failures = [failure.message for failure in result.failures if failure.host == node]
        changes = board.changes(node)
        if changes:
            lines.append(f"{node}: {'would repair' if board.check else 'repaired'}: {'; '.join(changes)}")
        if failures:
            lines.append(f"{node}: not repaired: {failures[-1].removeprefix(f'{node}: ')}")
        elif node not in result.stats:
            lines.append(f"{node}: not repaired: {result.output.splitlines()[-1] if result.output else 'not reached'}")
        elif not changes:
            lines.append(f"{node}: nothing to repair")
    return lines


def _differences(result: RunResult, nodes: Sequence[str]) -> list[str]:
    """Return what would differ in files, as `diff` writes it."""
    lines = []
    for by_host in result.results.values():
        for node in nodes:
            found = by_host.get(node, {}).get("diff") or []
            for item in found if isinstance(found, list) else [found]:
                if item.get("before") != item.get("after") and isinstance(item.get("after"), str):
                    lines.append(f"--- {node}:{item.get('before_header', '')}")
                    old, new = str(item.get("before") or "").splitlines(), str(item["after"]).splitlines()
                    lines += [f"-{line}" for line in old if line not in new]
                    lines += [f"+{line}" for line in new if line not in old]
    return lines
