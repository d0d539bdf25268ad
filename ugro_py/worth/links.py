"""Measure the network between nodes, pair by pair, and keep what was measured in the central store."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict

from ugro_py import paths
from ugro_py.cluster import Node
from ugro_py.errors import NodeError, StateError
from ugro_py.transport import Session, close_all, open_sessions
from ugro_py.worth.prediction import Link

SECONDS = 1.0
# A measurement is believed for so long: cables, switches and what else uses them change.
KEPT_DAYS = 30
# No date is beyond that (the year 5138): it can only be damage.
_FAR = 1e11


def measure(nodes: Sequence[Node], seconds: float = SECONDS) -> tuple[list[Link], list[str]]:
    """Measure how fast each node sends to each other one, and return that with what could not be measured, in words.

    In each round no node takes part twice, so that pairs do not share a cable; each direction is measured by itself.
    It takes about `seconds` times 2 (n - 1) for n nodes.

    Raises:
        NodeError: fewer than two nodes answer.
    """
    return asyncio.run(_measure(nodes, seconds))


def rounds(names: Sequence[str]) -> list[list[tuple[str, str]]]:
    """Return every pair once, in rounds in which no name is twice: the circle method of tournaments."""
    circle: list[str | None] = [*names, *([None] if len(names) % 2 else [])]
    found = []
    for _ in range(len(circle) - 1):
        half = len(circle) // 2
        pairs = zip(circle[:half], reversed(circle[half:]), strict=True)
        found.append([(one, other) for one, other in pairs if one is not None and other is not None])
        circle = [circle[0], circle[-1], *circle[1:-1]]
    return found


async def _measure(nodes: Sequence[Node], seconds: float) -> tuple[list[Link], list[str]]:
    opened = await open_sessions(nodes)
    sessions = {name: session for name, session in opened.items() if isinstance(session, Session)}
    troubles = [str(error) for error in opened.values() if isinstance(error, NodeError)]
    links: list[Link] = []
    try:
        if len(sessions) < 2:
            raise NodeError("measure the network", "; ".join(troubles) or "there is one node", "see `ugro check`")
        for pairs in rounds(list(sessions)):
            for ways in (pairs, [(other, one) for one, other in pairs]):
                results = await asyncio.gather(*(_one(sessions, one, other, seconds) for one, other in ways))
                links += [result for result in results if isinstance(result, Link)]
                troubles += [result for result in results if isinstance(result, str)]
    finally:
        await close_all(opened.values())
    return links, troubles


async def _one(sessions: Mapping[str, Session], source: str, target: str, seconds: float) -> Link | str:
    """Return how fast `source` sends to `target`, or why that is not known."""
    receiver, token = sessions[target], secrets.token_hex(16)
    address = receiver.node.address
    patience = 2 * seconds + 45
    try:
        port = (await receiver.call("bandwidth_take", address=address, token=token, seconds=seconds))["port"]
        sender = sessions[source]
        result = await sender.call(
            "bandwidth_send", address=address, port=port, token=token, seconds=seconds, timeout_s=patience
        )
    except NodeError as error:
        came_back = (error.came_back or error.what).removeprefix("OSError: ")
        return f"{source} to {target} ({address}): {came_back}"
    if not result.get("mb_s"):
        return f"{source} to {target} ({address}): next to nothing arrived"
    return Link(source, target, result["mb_s"], result["latency_ms"], round(time.time(), 1))


def keep(links: Sequence[Link]) -> None:
    """Keep measurements; older ones of the same links are forgotten.

    Raises:
        StateError: the central store cannot be written.
    """
    target = paths.bandwidth()
    newest = {(link.source, link.target): link for link in [*_read(), *links]}
    part = target.with_suffix(".new")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part.write_text(json.dumps({"links": [asdict(link) for link in newest.values()]}, indent=1), encoding="utf-8")
        part.replace(target)
    except OSError as error:
        raise StateError(f"{target}: keep what was measured", str(error), "check the disk and its rights") from error


def kept(nodes: Collection[str]) -> list[Link]:
    """Return what was measured between these nodes in the last `KEPT_DAYS`."""
    oldest = time.time() - 86400 * KEPT_DAYS
    return [link for link in _read() if {link.source, link.target} <= set(nodes) and link.measured_at >= oldest]


def _read() -> list[Link]:
    try:
        found = [Link(**link) for link in json.loads(paths.bandwidth().read_text(encoding="utf-8"))["links"]]
        return [link for link in found if link.mb_s > 0 and 0 < link.measured_at < _FAR]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # none yet, or damaged: it is measured anew
