"""Ranks that run on nodes although the store knows that their attempt is over: reported and ended.

Looked for when the agent starts, when a node that was unreachable answers again, and now and then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from ugro_py.cluster import Cluster, Node
from ugro_py.errors import NodeError, StateError
from ugro_py.state import Store
from ugro_py.strays import end_strays
from ugro_py.transport import Session, close_all, open_sessions, report
from ugro_py.users import cluster_for

EVERY_S = 900.0
_LOOK_S = 2.0
_log = logging.getLogger("ugro.agent")


async def sweep(store: Store, nodes: list[Node]) -> bool:
    """End what is over on these nodes; those not reached are left for later. Returns whether there was any."""
    opened = await open_sessions(nodes)
    sessions = {name: session for name, session in opened.items() if isinstance(session, Session)}
    try:
        results = await asyncio.gather(*map(report, sessions.values()), return_exceptions=True)
        reports = {}
        for name, result in zip(sessions, results, strict=True):
            if isinstance(result, BaseException):
                if not isinstance(result, NodeError):
                    raise result
            else:
                reports[name] = result
        return await end_strays(store, sessions, reports)
    finally:
        await close_all(opened.values())


async def sweep_all(store: Store, cluster: Cluster, names: Collection[str] | None = None) -> bool:
    """As `sweep`, under every account that jobs run as: each has its own attempts, which another does not see.

    Args:
        store: the state store.
        cluster: the inventory.
        names: of the nodes; default: all.
    """
    accounts = {account: user for user, account in cluster.settings.accounts.items()}
    found = False
    for nodes in (cluster.nodes, *(cluster_for(cluster, user).nodes for user in accounts.values())):
        found |= await sweep(store, [node for node in nodes if names is None or node.name in names])
    return found


class Orphans:
    """Looks for orphans for as long as the agent runs."""

    def __init__(self, store: Store, cluster: Cluster) -> None:
        self._store = store
        self._cluster = cluster
        self._away: set[str] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Look now, when a node is back, and every `EVERY_S`, until `stop` is set."""
        loop = asyncio.get_running_loop()
        due = 0.0
        while not stop.is_set():
            back = await self._back()
            if loop.time() >= due:
                due = loop.time() + EVERY_S
                await sweep_all(self._store, self._cluster)
            elif back:
                _log.info("back: %s", ", ".join(node.name for node in back))
                await sweep_all(self._store, self._cluster, {node.name for node in back})
            try:
                await asyncio.wait_for(stop.wait(), _LOOK_S)
            except TimeoutError:
                continue

    async def _back(self) -> list[Node]:
        """Return the nodes that were unreachable when it looked before, and are not now."""
        try:
            rows = await asyncio.to_thread(self._store.nodes)
        except StateError:
            return []
        away = {row.name for row in rows if row.health == "unreachable"}
        back, self._away = self._away - away, away
        return [node for node in self._cluster.nodes if node.name in back]
