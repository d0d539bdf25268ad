"""Who is at the other end of a connection: the kernel says so for a Unix socket, a token does for TCP."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections import Counter
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from ugro_py.api.guard import error_body
from ugro_py.api.other_end import MAPPED, owner_of_other_end
from ugro_py.errors import StateError

HEADER_TIMEOUT_S = 10.0
"""A request must have begun and its headers be whole in this time; who sends them byte by byte is hung up on."""

MOST_CONNECTIONS = 48
"""Of one account (Unix socket) or one address (TCP) at once: nobody can take all of the agent's descriptors."""
MOST_LOCAL = 128
"""Of one account over TCP within this machine, where each open page of the dashboard has one; of all those together
whom the kernel does not know."""

_UCRED = struct.Struct("3i")
_TOO_MANY_BODY = json.dumps(
    error_body("this connection", "you have too many open already", "close some of them", StateError.exit_code)
).encode()
_TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"retry-after: 5\r\ncontent-length: %d\r\n\r\n" % len(_TOO_MANY_BODY)
) + _TOO_MANY_BODY


@dataclass(frozen=True)
class Peer:
    """The process at the other end. `uid` and `gid` are None over TCP, where `address` says where it is.

    `counted` is who its connections are counted for: `uid` or `address`, within this machine the account that holds the
    other end. That one proves nothing: a browser's requests may come through a tunnel or a proxy of somebody else.
    """

    uid: int | None
    gid: int | None
    address: str = ""
    counted: tuple[str, int | str] = ("", "")

    @property
    def most(self) -> int:
        """How many connections it may have."""
        return MOST_LOCAL if self.counted[0] == "local" else MOST_CONNECTIONS


def peer_of(connection: socket.socket) -> Peer:
    """Return who is connected, as the kernel knows it: a caller can't claim to be somebody else."""
    if connection.family == socket.AF_UNIX:
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        _pid, uid, gid = _UCRED.unpack(raw)
        return Peer(uid, gid, counted=("uid", uid))
    here, address = (str(name[0]).removeprefix(MAPPED) for name in (connection.getsockname(), connection.getpeername()))
    if address not in ("::1", here) and not address.startswith("127."):
        return Peer(None, None, address, ("address", address))
    uid_there = owner_of_other_end(connection)
    return Peer(None, None, address, ("local", "unknown" if uid_there is None else uid_there))


class PeerProtocol(H11Protocol):
    """uvicorn's protocol that hands the peer to the application, as `request.state.peer`.

    It also keeps one peer from having too many connections, and any peer from holding one without asking anything.
    """

    counts: Counter[tuple[str, int | str]] = Counter()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note who it is, and hang up on who has too many connections already."""
        super().connection_made(transport)
        self._key: tuple[str, int | str] | None = None
        self._timer: asyncio.TimerHandle | None = None
        try:
            peer = peer_of(transport.get_extra_info("socket"))
        except OSError:
            transport.abort()  # gone already
            return
        self._key = peer.counted
        self.counts[self._key] += 1
        if self.counts[self._key] > peer.most:
            transport.write(_TOO_MANY)
            transport.close()
            # Who does not take it is not waited for.
            self._timer = self.loop.call_later(1.0, transport.abort)
            return
        # A copy: uvicorn gives every connection the same mapping.
        self.app_state: dict[str, Any] = {**self.app_state, "peer": peer, "hang_up": transport.abort}
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        if self._key is not None:
            self.counts[self._key] -= 1
            if self.counts[self._key] <= 0:
                del self.counts[self._key]
            self._key = None
        self._unwatch()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        super().data_received(data)
        if self._is_idle():
            self._watch()
        else:
            self._unwatch()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(HEADER_TIMEOUT_S, self._too_slow)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        if self._is_idle():
            self.transport.abort()
