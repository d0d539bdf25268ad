"""Whether a node's machine answers at all: a TCP connection to its SSH port, taken by its kernel however busy it is."""

from __future__ import annotations

import asyncio

from ugro_py.cluster import Node


async def knock(node: Node, timeout_s: float) -> bool:
    """Say whether the machine answered within `timeout_s`; that it refuses the connection is an answer too."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(node.address, node.port), timeout_s)
    except ConnectionRefusedError:
        return True
    except (TimeoutError, OSError):
        return False
    writer.close()
    return True
