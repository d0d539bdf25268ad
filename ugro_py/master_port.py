"""The rendezvous port of a job: free on its first node, and reached by every other, tried before the launch."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ugro_py import paths
from ugro_py.cluster import Cluster
from ugro_py.errors import NodeError, UgroError, VerificationError
from ugro_py.transport import Session

if TYPE_CHECKING:
    from ugro_py.state import Store

# A job's rendezvous port is one of so many from the inventory's master port on; open this range in a firewall.
PORT_RANGE = 100


def _candidates(first: int) -> list[int]:
    """Return the ports in the order in which they are tried.

    Each central store begins somewhere else: two that know nothing of each other, of two users say, would else choose
    the same port at the same moment.
    """
    ports = list(range(first, min(first + PORT_RANGE, 65536)))
    begin = zlib.crc32(paths.database_url().encode()) % len(ports)
    return ports[begin:] + ports[:begin]


def _leased(store: Store) -> set[int]:
    return {attempt.master_port for job in store.jobs(active=True) if (attempt := store.attempt(job.name))}


async def try_port(cluster: Cluster, store: Store, chosen: list[str], sessions: Mapping[str, Session]) -> int:
    """Return a free port on the first node that every other node reaches.

    Raises:
        VerificationError: no port is free, or a node cannot connect.
    """
    master = sessions[chosen[0]]
    address = master.node.address
    leased = await store.patiently(_leased, store)
    last: UgroError | None = None
    for port in _candidates(cluster.master_port):
        if port in leased:
            continue
        try:
            await master.call("listen", address=address, port=port)
        except NodeError as error:
            last = error
            if "Address already in use" not in error.came_back:
                break
            continue
        try:
            await asyncio.gather(
                *(
                    session.call("connect", address=address, port=port)
                    for name, session in sessions.items()
                    if name != chosen[0]
                )
            )
        except NodeError as error:
            raise VerificationError(
                f"{error.what} to {chosen[0]} ({address}:{port})",
                error.came_back,
                f"open ports {cluster.master_port}-{cluster.master_port + PORT_RANGE - 1} between the nodes",
            ) from error
        finally:
            await master.call("unlisten", port=port)
        return port
    said = last.came_back if last else "all are leased"
    raise VerificationError(f"{chosen[0]}: find a free port on {address}", said, "correct ansible_host or free a port")
