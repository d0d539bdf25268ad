# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""How fast bytes get from one node to another, and how long a small message takes: one TCP stream, measured."""

from __future__ import annotations

import hmac
import os
import socket
import struct
import threading
import time

TYPE_CHECKING = False  # importing typing costs a node 3 ms
if TYPE_CHECKING:
    from typing import Any, Dict, Tuple

# TCP needs a moment until it sends as fast as the line allows; what arrives until then does not count.
WARM_UP_SHARE = 0.25
_PINGS = 20
_BLOCK = 1 << 18
# Nobody is waited for any longer: a peer that vanished must not keep a thread and a port.
_PATIENCE_S = 20.0
# Two nodes of a cluster reach each other sooner, or not at all; who knows the token tells it at once.
_CONNECT_S = 5.0
_TOKEN_S = 3.0
# Strangers that are heard at the same time.
_STRANGERS = 8
_RESULT = struct.Struct("!dd")  # bytes, seconds


class Receiver:
    """Takes one measurement on a port of its own, from the one who knows the token."""

    def __init__(self, address: str, token: str, seconds: float) -> None:
        self._token = token.encode()
        self._seconds = seconds
        self._room = threading.Semaphore(_STRANGERS)
        self._listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._listener.bind((address, 0))
            self._listener.listen(4 * _STRANGERS)
        except OSError:
            self._listener.close()
            raise
        self.port = self._listener.getsockname()[1]
        self.thread = threading.Thread(target=self._serve, name="bandwidth", daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        """Hear whoever comes, each in a thread: a stranger that says nothing keeps nobody waiting."""
        with self._listener:
            end = time.monotonic() + _PATIENCE_S + self._seconds
            while (left := end - time.monotonic()) > 0:
                self._listener.settimeout(left)
                try:
                    connection, dummy = self._listener.accept()
                except OSError:
                    return  # nobody came, or the one who was waited for is here
                if self._room.acquire(blocking=False):
                    threading.Thread(target=self._hear, args=(connection,), name="bandwidth", daemon=True).start()
                else:
                    connection.close()

    def _hear(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(_TOKEN_S)
                if hmac.compare_digest(_exactly(connection, len(self._token)), self._token):
                    self._listener.shutdown(socket.SHUT_RDWR)  # nobody else is heard from here on
                    connection.settimeout(_PATIENCE_S)
                    self._take(connection)
        except OSError:
            pass  # the peer is gone, or another was first; the one who measures sees that for itself
        finally:
            self._room.release()

    def _take(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _number in range(_PINGS):
            connection.sendall(_exactly(connection, 1))
        counted, last = self._count(connection)
        connection.sendall(_RESULT.pack(counted, last))
        connection.settimeout(_PATIENCE_S)
        while connection.recv(_BLOCK):
            pass  # what is under way still: to close before it is here would take the result back

    def _count(self, connection: socket.socket) -> Tuple[int, float]:
        """Return how many bytes came in the time that counts, and how many seconds that was."""
        buffer = bytearray(_BLOCK)
        began = since = last = time.monotonic()
        counted, warm = 0, False
        while last - began < self._seconds:
            connection.settimeout(max(0.01, began + self._seconds - last))
            try:
                size = connection.recv_into(buffer)
            except socket.timeout:
                break
            if not size:
                break
            last = time.monotonic()
            if warm:
                counted += size
            elif last - began >= WARM_UP_SHARE * self._seconds:
                warm, since = True, last
        return counted, last - since


def send(address: str, port: int, token: str, seconds: float) -> Dict[str, Any]:
    """Send to a `Receiver` for `seconds` as fast as it goes.

    Returns:
        ``{"mb_s", "latency_ms"}``: what arrived in megabytes (1e6) per second, and half a round trip of one byte, the
        quickest of some. mb_s is None where so little arrived that it says nothing.

    Raises:
        OSError: the peer cannot be reached, or ended.
    """
    with _connected(address, port) as connection:
        connection.settimeout(_PATIENCE_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(token.encode())
        trips = []
        for _number in range(_PINGS):
            start = time.monotonic()
            connection.sendall(b"?")
            _exactly(connection, 1)
            trips.append(time.monotonic() - start)
        block = os.urandom(_BLOCK)  # what can be compressed might be, on the way
        end = time.monotonic() + seconds
        try:
            while (left := end - time.monotonic()) > 0:
                connection.settimeout(left)
                connection.send(block)
        except socket.timeout:
            pass  # a slow line: what it was given is more than it took
        connection.settimeout(_PATIENCE_S)
        counted, passed = _RESULT.unpack(_exactly(connection, _RESULT.size))
    rate = round(counted / passed / 1e6, 3) if counted and passed > 0 else None
    return {"mb_s": rate, "latency_ms": round(500 * min(trips), 4)}


def _connected(address: str, port: int) -> socket.socket:
    try:
        return socket.create_connection((address, port), timeout=_CONNECT_S)
    except socket.timeout:
        came_back = "nothing answered within %g s" % _CONNECT_S
    except OSError as error:
        came_back = (error.strerror or str(error)).lower()
    # The node itself is reachable: UGRO has just told it over SSH to open this port.
    raise OSError(
        "no connection to TCP port %d (%s): a firewall? training needs all ports open between nodes" % (port, came_back)
    )


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise ConnectionResetError("the peer ended the measurement")
        data += more
    return data
