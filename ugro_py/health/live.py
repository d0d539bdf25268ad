"""`ugro health --watch`: the nodes' health as it changes, as a table that is drawn anew, lines, or JSON lines."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ugro_py.cluster import Cluster
from ugro_py.health.known import known_nodes, shown, why
from ugro_py.health.node_health import NodeHealth
from ugro_py.health.sweeper import Sweeper
from ugro_py.interrupt import run

if TYPE_CHECKING:
    from rich.table import Table

    from ugro_py.api.client import Client

Read = Callable[[], dict[str, Any]]
_COLOURS = {"healthy": "green", "degraded": "yellow", "unreachable": "red", "draining": "cyan", "drained": "cyan"}
_DRAWN_EVERY_S = 1.0
_TOLD_EVERY_S = 10.0


def watch(cluster: Cluster, write: Callable[[str], None], *, as_json: bool, terminal: bool) -> None:
    """Show the health of all nodes until the user interrupts.

    Args:
        cluster: the nodes to watch.
        write: takes a line of output.
        as_json: write one JSON object at each of the cluster's health intervals.
        terminal: draw a table; otherwise a line is written for each change.
    """
    with contextlib.suppress(asyncio.CancelledError):  # the user's way to end this
        run(_watch(cluster, write, as_json=as_json, terminal=terminal))


def watch_told(client: Client, write: Callable[[str], None], *, as_json: bool, terminal: bool) -> None:
    """Show the health of all nodes as the agent knows it until the user interrupts; see `watch`.

    Raises:
        StateError: the agent is gone.
    """
    from ugro_py.health import told

    def read() -> dict[str, Any]:
        return told.as_data(told.told(client))

    async def show() -> None:
        for_ever = asyncio.create_task(asyncio.Event().wait())
        try:
            await _show(read, for_ever, write, as_json=as_json, terminal=terminal, pause_s=_TOLD_EVERY_S)
        finally:
            for_ever.cancel()

    with contextlib.suppress(asyncio.CancelledError):
        run(show())


async def _watch(cluster: Cluster, write: Callable[[str], None], *, as_json: bool, terminal: bool) -> None:
    sweeper = Sweeper(cluster)
    stop = asyncio.Event()
    running = asyncio.create_task(sweeper.run(stop))
    pause_s = cluster.settings.health_interval_s
    try:
        if as_json or not terminal:
            await _first(sweeper, running)
        await _show(lambda: as_data(sweeper), running, write, as_json=as_json, terminal=terminal, pause_s=pause_s)
    finally:
        stop.set()
        await running


async def _show(
    read: Read,
    running: asyncio.Task[Any],
    write: Callable[[str], None],
    *,
    as_json: bool,
    terminal: bool,
    pause_s: float,
) -> None:
    if as_json:
        await _objects(read, running, write, pause_s)
    elif terminal:
        await _table(read, running)
    else:
        await _lines(read, running, write)


async def _first(sweeper: Sweeper, running: asyncio.Task[None]) -> None:
    """Wait until every node has been looked at once."""
    while len(sweeper.health) < len(sweeper.nodes) and not running.done():
        await asyncio.sleep(0.05)


async def _objects(read: Read, running: asyncio.Task[Any], write: Callable[[str], None], pause_s: float) -> None:
    while not running.done():
        write(json.dumps(await asyncio.to_thread(read)))
        await asyncio.wait([running], timeout=pause_s)


async def _lines(read: Read, running: asyncio.Task[Any], write: Callable[[str], None]) -> None:
    last: dict[str, Any] = {}
    while not running.done():
        for name, entry in (await asyncio.to_thread(read))["nodes"].items():
            # Figures change all the time; what is told of is another state, or another problem.
            new = (entry["state"], entry["drain"], sorted(item["check"] for item in entry["problems"]))
            if new != last.get(name):
                last[name] = new
                told = "; ".join(filter(None, [entry["reason"], entry["drain"]]))
                write(f"{_now()} {name}: {entry['state']}" + (f": {told}" if told else f" ({entry['summary']})"))
        await asyncio.wait([running], timeout=_DRAWN_EVERY_S)


async def _table(read: Read, running: asyncio.Task[Any]) -> None:
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(highlight=False), auto_refresh=False) as live:
        while not running.done():
            live.update(draw(await asyncio.to_thread(read)), refresh=True)
            await asyncio.wait([running], timeout=_DRAWN_EVERY_S)


def draw(data: dict[str, Any]) -> Table:
    """Return the table of all nodes."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("NODE", "STATE", "TRAINS WITH", "LATENCY", "WHY"):
        table.add_column(title, no_wrap=title != "WHY")
    for name, entry in data["nodes"].items():
        colour = _COLOURS.get(entry["state"], "dim")
        latency = "-" if entry["latency_ms"] is None else f"{entry['latency_ms']:.1f} ms"
        told = "; ".join(filter(None, [entry["drain"], entry["reason"]]))
        state = f"[{colour}]{entry['state']}[/{colour}]"
        table.add_row(name, state, escape(entry["summary"]) or "-", latency, escape(told))
    table.caption = f"{data['at']}  Ctrl-C ends this"
    table.caption_justify = "left"
    return table


def as_data(sweeper: Sweeper) -> dict[str, Any]:
    """Return the health of all nodes as JSON-able data, with the drains of the store."""
    rows, busy = known_nodes(sweeper.cluster)
    nodes = {}
    for node in sweeper.nodes:
        row = rows.get(node.name)
        health = sweeper.health.get(node.name) or NodeHealth(node.name, "unknown")
        nodes[node.name] = {
            "state": shown(row, node.name in busy, health.state),
            "severity": health.severity,
            "reason": health.reason,
            "summary": health.summary,
            "latency_ms": health.latency_ms,
            "drain": why(row),
            "problems": [_item(item) for item in health.problems],
            "findings": [_item(item) for item in health.findings],
        }
    return {"at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "nodes": nodes}


def _item(finding: Any) -> dict[str, Any]:
    keys = ("check", "severity", "text", "remedy", "value")
    return {key: getattr(finding, key) for key in keys}


def _now() -> str:
    return datetime.now().astimezone().strftime("%H:%M:%S")
