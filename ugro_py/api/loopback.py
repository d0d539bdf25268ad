"""The dashboard's port on this machine's loopback: on every address that `localhost` means, or on none."""

from __future__ import annotations

import errno
import socket

_ADDRESSES = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def loopback(port: int) -> list[socket.socket]:
    """Return sockets that listen at `port`.

    A browser that is sent to `localhost` may try either address. If somebody else had one of them, they would be given
    the one-time links that are meant for the dashboard: so it is both, or neither. A machine without IPv6 has one.

    Raises:
        OSError: somebody has it.
    """
    made: list[socket.socket] = []
    for family, address in _ADDRESSES:
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            if error.errno in _NO_SUCH_ADDRESS:
                continue
            raise
        made.append(sock)
        try:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address, port))
            sock.listen()  # only now is it ours: two that do not listen yet may be bound to one port
        except OSError as error:
            made.pop().close()
            if error.errno in _NO_SUCH_ADDRESS:
                continue
            for other in made:
                other.close()
            raise
    return made
