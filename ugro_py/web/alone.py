"""The dashboard without an agent: served by `ugro dashboard` itself, over the caller's own store."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ugro_py import users
from ugro_py.api.app import create_app
from ugro_py.api.loopback import loopback
from ugro_py.api.server import end, serve_browsers
from ugro_py.api.view import Timing
from ugro_py.cluster import Cluster
from ugro_py.errors import StateError
from ugro_py.inventory import load_cluster
from ugro_py.reconcile import kept_true
from ugro_py.state import Store

if TYPE_CHECKING:
    import uvicorn


class Alone:
    """What the application needs of an agent, where there is none: nobody looks at nodes."""

    watches = False

    def __init__(self, store: Store, cluster: Cluster) -> None:
        self.store = store
        self.cluster = cluster

    def timings(self) -> Mapping[str, Timing]:
        """Return nothing: there are no rounds."""
        return {}

    def readings(self) -> Mapping[str, Mapping[str, Any]]:
        """Return nothing: nobody sweeps."""
        return {}

    def wake(self) -> None:
        """Do nothing: nobody waits."""


def serve_alone(inventory: str | None, port: int, told: Callable[[str], object]) -> None:
    """Serve the dashboard at http://localhost:PORT until Ctrl-C or SIGTERM.

    Args:
        inventory: path, as of the option `-i`; None for the default.
        port: of this machine's loopback; 0 for any that is free.
        told: is called with the address that signs the caller in, as soon as it can be opened.

    Raises:
        InventoryError: the inventory cannot be used.
        StateError: the store cannot be used, or the port is taken.
    """
    sockets = _bound(port)
    port = sockets[0].getsockname()[1]
    with Store.open() as store, kept_true(store):
        asyncio.run(_serve(Alone(store, load_cluster(inventory)), sockets, port, told))


def _bound(port: int) -> list[socket.socket]:
    try:
        if not port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
        return loopback(port)
    except OSError as error:
        raise StateError(
            f"serve the dashboard at http://localhost:{port}", error.strerror or str(error), "choose another --port"
        ) from error


async def _serve(agent: Alone, sockets: list[socket.socket], port: int, told: Callable[[str], object]) -> None:
    app = create_app(agent)
    servers: list[tuple[uvicorn.Server, socket.socket]] = []
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    serving = asyncio.create_task(serve_browsers(app, port, sockets, servers))
    stopping = asyncio.create_task(stop.wait())
    try:
        while not servers or not all(server.started for server, _ in servers):
            if serving.done():
                return await serving
            await asyncio.sleep(0.01)
        # In a thread: a browser that is opened may be waited for, and it waits for this server.
        await asyncio.to_thread(told, f"http://localhost:{port}/login?once={app.state.sessions.link(users.me())}")
        await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        await end(app, servers, [serving])
    return None
