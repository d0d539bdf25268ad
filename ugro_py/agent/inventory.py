"""The inventory as the agent has it: read anew when one of its files has changed."""

from __future__ import annotations

import logging
from pathlib import Path

from ugro_py.errors import InventoryError
from ugro_py.inventory import inventory_file, load_cluster

_log = logging.getLogger("ugro.agent")
_BESIDE = ("group_vars", "host_vars")
Stamp = tuple[tuple[str, int, int], ...]


class Inventory:
    """An inventory that may change while it is in use.

    Args:
        path: as for `load_cluster`; where it is None, the user's inventory is used as soon as there is one.

    Raises:
        InventoryError: it cannot be used; later, a change that cannot be used is left aside.
    """

    def __init__(self, path: str | Path | None) -> None:
        self._path = path
        self._stamp = self._now()
        self.cluster = load_cluster(path)
        self.problem = ""
        """Why the newest change is not in use; empty where it is."""

    def changed(self) -> bool:
        """Read the files anew if one has changed; return whether the cluster is another now."""
        stamp = self._now()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            cluster = load_cluster(self._path)
        except InventoryError as error:
            self.problem = str(error)
            _log.error("the inventory has changed and cannot be used, the old one stays: %s", error)
            return False
        self.problem = ""
        if cluster == self.cluster:
            return False
        self.cluster = cluster
        _log.info("the inventory has changed: %s", ", ".join(node.name for node in cluster.nodes))
        return True

    def _now(self) -> Stamp:
        try:
            file = inventory_file(self._path)
        except InventoryError:
            return ()  # while an editor replaces it
        beside = (path for name in _BESIDE for path in sorted((file.parent / name).rglob("*")))
        return tuple(_stamp(path) for path in (file, *beside))


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        stat = path.stat()
    except OSError:
        return str(path), 0, 0
    return str(path), stat.st_mtime_ns, stat.st_size
