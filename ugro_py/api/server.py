"""Serves the application in the agent's own loop: on a Unix socket, and on TCP (`--listen`, and the dashboard)."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from ugro_py.api import unix
from ugro_py.api.loopback import loopback
from ugro_py.api.peer import PeerProtocol
from ugro_py.api.tokens import read_tokens
from ugro_py.errors import StateError, UsageError
from ugro_py.web.following import end_watches

if TYPE_CHECKING:
    from fastapi import FastAPI

_log = logging.getLogger("ugro.api")
_AGAIN_S = 5.0
"""How soon a port of the dashboard that somebody has is tried again."""
_GRACE_S = 1
"""How long an answer under way may take at the end, in seconds."""


@dataclass(frozen=True)
class Listen:
    """A TCP door: `address` and `port`, the file of tokens, and TLS (PEM files).

    `hosts` are further names it is asked under, beside the machine's own and the address that was connected to. Beyond
    this machine's loopback TLS is demanded, unless `plain`.
    """

    address: str
    port: int
    token_file: Path
    certificate: Path | None = None
    key: Path | None = None
    plain: bool = False
    hosts: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str, token_file: Path | None, **options: object) -> Listen:
        """Return the door that `ADDRESS:PORT` means.

        Raises:
            UsageError: it is no address and port, there is no token file, it would be open in clear text, or an option
                would do nothing.
        """
        address, colon, port = text.rpartition(":")
        address = address.strip("[]")
        if not colon or not address or not (port.isascii() and port.isdigit() and int(port) < 65536):
            raise UsageError(f"--listen {text}", "is not ADDRESS:PORT", "say for example 127.0.0.1:7070")
        if token_file is None:
            raise UsageError(f"--listen {text}", "needs --token-file", "on TCP nobody is known without a token")
        listen = cls(address, int(port), token_file, **options)  # type: ignore[arg-type]
        if listen.key is not None and listen.certificate is None:
            raise UsageError(f"--tls-key {listen.key}", "needs --tls-cert", "give both")
        if listen.certificate is not None and listen.plain:
            raise UsageError("--plain-http", "contradicts --tls-cert", "leave out one of them")
        if not _is_loopback(address) and listen.certificate is None and not listen.plain:
            raise UsageError(
                f"--listen {text}", "would send tokens in clear text over the network",
                "give --tls-cert and --tls-key, or say --plain-http where the network itself is encrypted",
            )  # fmt: skip
        return listen

    def check(self) -> None:
        """Read the files that it needs.

        Raises:
            StateError: one cannot be used.
        """
        read_tokens(self.token_file)
        if self.certificate is None:
            return
        try:
            # Without the function OpenSSL would ask the terminal for the key's passphrase, and wait.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key, lambda: b"")
        except OSError as error:
            key = self.key or self.certificate
            said = error.strerror or str(error)
            raise StateError(
                f"read the TLS certificate {self.certificate} and the key {key}", said,
                "give --tls-cert and --tls-key as PEM files that belong together, the key without a passphrase",
            ) from error  # fmt: skip


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the agent has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    app: FastAPI,
    path: Path,
    *,
    stop: asyncio.Event,
    shared: bool = False,
    listen: Listen | None = None,
    ready: asyncio.Event | None = None,
    dashboard: int = 0,
) -> None:
    """Serve `app` until `stop` is set; what is being answered then has a second to end.

    Args:
        app: made by `ugro_py.api.app.create_app`.
        path: the Unix socket.
        stop: ends it.
        shared: every user of this machine may connect (mode 0666), else only the own account and root (0600).
        listen: a TCP door as well.
        ready: set as soon as connections are taken.
        dashboard: a port of this machine's loopback for browsers; 0 for none. One that is taken is told of in the log.

    Raises:
        StateError: an address cannot be listened at.
    """
    listener = unix.bind(path, 0o666 if shared else 0o600)
    inode = path.stat().st_ino
    servers: list[tuple[uvicorn.Server, socket.socket]] = []
    try:
        servers.append((_server(app, None), listener))
        if listen is not None:
            app.state.tokens.follow(listen.token_file)
            app.state.hosts.update(
                name.lower().strip("[]") for name in (listen.address, socket.gethostname(), *listen.hosts)
            )
            servers.append((_server(app, listen), _tcp(listen)))
        tasks = [asyncio.create_task(server.serve([sock])) for server, sock in servers]
        waiting = asyncio.create_task(stop.wait())
        browsers = asyncio.create_task(_for_browsers(app, dashboard, servers))
        try:
            while not all(server.started for server, _sock in servers) and not any(task.done() for task in tasks):
                await asyncio.sleep(0.01)
            if ready is not None:
                ready.set()
            await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            if app.state.dashboard_port is None:
                browsers.cancel()
            await end(app, servers, [browsers, *tasks])
            await asyncio.gather(*tasks)
    finally:
        for _, sock in servers:
            sock.close()
        listener.close()
        unix.remove(path, inode)


async def end(
    app: FastAPI, servers: list[tuple[uvicorn.Server, socket.socket]], tasks: list[asyncio.Task[None]]
) -> None:
    """End servers, and all that goes on in the application beside them; what failed in `tasks` is still there to see.

    Args:
        app: what they serve.
        servers: are to exit.
        tasks: which serve.
    """
    app.state.closing.set()
    app.state.feed.close()
    for server, _ in servers:
        server.should_exit = True
    await asyncio.gather(*tasks, return_exceptions=True)
    await app.state.feed.ended()
    await app.state.live.ended()
    await end_watches(app)
    for server, _ in servers:  # readers that took nothing till the end
        for connection in list(server.server_state.connections):
            connection.transport.abort()


async def _for_browsers(app: FastAPI, port: int, servers: list[tuple[uvicorn.Server, socket.socket]]) -> None:
    """Serve the dashboard at a port of the loopback, and add what does to `servers`; wait where somebody has it."""
    told = not port
    while port:
        try:
            sockets = loopback(port)
        except OSError as error:
            if not told:
                said = error.strerror or error
                _log.warning("no dashboard at http://localhost:%d: %s; --dashboard names another port", port, said)
            told = True
            await asyncio.sleep(_AGAIN_S)
            continue
        await serve_browsers(app, port, sockets, servers)
        return


async def serve_browsers(
    app: FastAPI, port: int, sockets: list[socket.socket], servers: list[tuple[uvicorn.Server, socket.socket]]
) -> None:
    """Serve the dashboard at sockets of the loopback until the servers, which are added to `servers`, are to exit."""
    own = [(_server(app, None), sock) for sock in sockets]
    servers.extend(own)
    app.state.dashboard_port = port
    try:
        await asyncio.gather(*(server.serve([sock]) for server, sock in own))
    finally:
        app.state.dashboard_port = None


def _server(app: FastAPI, listen: Listen | None) -> _Server:
    secure = listen is not None and listen.certificate is not None
    config = uvicorn.Config(
        app,
        http=PeerProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        log_level="error",
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_GRACE_S,
        ssl_certfile=str(listen.certificate) if listen and secure else None,
        ssl_keyfile=str(listen.key) if listen and secure and listen.key else None,
    )
    try:
        config.load()
    except OSError as error:
        raise StateError(
            "read the TLS certificate", str(error), "give --tls-cert and --tls-key as PEM files"
        ) from error
    return _Server(config)


def _tcp(listen: Listen) -> socket.socket:
    family = socket.AF_INET6 if ":" in listen.address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((listen.address, listen.port))
    except OSError as error:
        sock.close()
        where = f"listen at {listen.address}:{listen.port}"
        raise StateError(where, str(error.strerror or error), "choose another address or port") from error
    return sock
