"""Alerts for a terminal and as JSON values, and the test notice of `ugro alerts test`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

from ugro_py.alerts.rules import targets
from ugro_py.alerts.sender import deliver
from ugro_py.cluster import Cluster
from ugro_py.errors import InventoryError
from ugro_py.events import harmless
from ugro_py.moments import exact
from ugro_py.state.rows import AlertRow


def as_values(alert: AlertRow) -> dict[str, Any]:
    """Return an alert as plain JSON values."""
    times = {
        name: exact(at) if (at := getattr(alert, name)) else None
        for name in ("first_at", "last_at", "notified_at", "resolved_at")
    }
    names = ("id", "key", "rule", "severity", "text", "job", "node", "count")
    return {name: getattr(alert, name) for name in names} | times


def lines(alerts: Sequence[AlertRow]) -> list[str]:
    """Return a line for each alert, or one that says that there is none."""
    if not alerts:
        return ["no alerts"]
    found = []
    for alert in alerts:
        state = "over" if alert.resolved_at else "told" if alert.notified_at else "open"
        times = f" ({alert.count} times)" if alert.count > 1 else ""
        where = " ".join(filter(None, (alert.node, alert.job and f"job {alert.job}")))
        text = f"{alert.first_at:%Y-%m-%d %H:%M:%S}Z  {alert.severity:<7}  {state:<4}  {alert.rule:<16}  {where}"
        found.append(harmless(f"{text}: {alert.text}{times}"))
    return found


def send_test(cluster: Cluster) -> list[tuple[str, str]]:
    """Send a test notice to every address at once; returns each (without secrets) and "" or why it was not taken.

    Raises:
        InventoryError: an address cannot be read, or there is none.
    """
    addresses = targets(cluster.settings)
    if not addresses:
        raise InventoryError("ugro_alerts.urls", f"{cluster.source} names none", "see docs/alerts.md")
    title = f"[ugro] test from {socket.gethostname()}"
    body = f"Alerts of the cluster {cluster.name} arrive here.\ninventory: {cluster.source}"

    async def send_all() -> list[str]:
        return await asyncio.gather(*(deliver(target, title, body, "info") for target in addresses))

    return list(zip((target.shown for target in addresses), asyncio.run(send_all()), strict=True))
