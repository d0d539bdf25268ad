"""Who is at the other end of a connection: the kernel says so for a Unix socket, a token does for TCP."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_TIMEOUT_S = 10.0
"""A request must have begun and its headers be whole in this time; who sends them byte by byte is hung up on."""

MOST_CONNECTIONS = 48
"""Of one account (Unix socket) or one address (TCP) at once: nobody can take all of the agent's descriptors."""
MOST_LOCAL = 384
"""Of this machine's loopback, which all of its users come from: each open page of the dashboard has one."""

_UCRED = struct.Struct("3i")


@dataclass(frozen=True)
class Peer:
    """The process at the other end. `uid` and `gid` are None over TCP, where `address` says where it is."""

    uid: int | None
    gid: int | None
    address: str = ""


def peer_of(connection: socket.socket) -> Peer:
    """Return who is connected, as the kernel knows it: a caller can't claim to be somebody else."""
    if connection.family == socket.AF_UNIX:
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        _pid, uid, gid = _UCRED.unpack(raw)
        return Peer(uid, gid)
    return Peer(None, None, str(connection.getpeername()[0]))


def _most(peer: Peer) -> int:
    return MOST_LOCAL if peer.address == "::1" or peer.address.startswith("127.") else MOST_CONNECTIONS


class PeerProtocol(H11Protocol):
    """uvicorn's protocol that hands the peer to the application, as `request.state.peer`.

    It also keeps one peer from having too many connections, and any peer from holding one without asking anything.
    """

    counts: Counter[object] = Counter()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note who it is, and hang up on who has too many connections already."""
        super().connection_made(transport)
        self._key: object = None
        self._timer: asyncio.TimerHandle | None = None
        try:
            peer = peer_of(transport.get_extra_info("socket"))
        except OSError:
            transport.abort()  # gone already
            return
        self._key = peer.address if peer.uid is None else peer.uid
        self.counts[self._key] += 1
        if self.counts[self._key] > _most(peer):
            transport.abort()
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
