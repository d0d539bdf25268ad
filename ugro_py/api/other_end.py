"""Whose process holds the other end of a TCP connection within this machine: the kernel knows each socket's owner."""

from __future__ import annotations

import socket
import struct

# sock_diag(7). One socket is looked up by its addresses; /proc/net/tcp would be read whole for each connection.
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST = 4, 20, 1
_HEADER = struct.Struct("=IHHII")  # nlmsghdr
_REQUEST = struct.Struct("=BBBxI 2s2s16s16sIII")  # inet_diag_req_v2 with its inet_diag_sockid
_ANSWER = struct.Struct("=BB2x 48x 12xII")  # inet_diag_msg: family, state, …, uid, inode
_ESTABLISHED, _ANY = 1, 0xFFFFFFFF
MAPPED = "::ffff:"


def owner_of_other_end(connection: socket.socket) -> int | None:
    """Return the uid of the process that made the other end of a connection within this machine.

    None where the kernel does not say: the other end is closed already (it would be called root's then), or is none of
    this machine's, or this kernel has no sock_diag.
    """
    try:
        (here, port), (there, port_there) = connection.getsockname()[:2], connection.getpeername()[:2]
        # IPv4 on a socket for both comes from a socket of IPv4.
        here, there = here.removeprefix(MAPPED), there.removeprefix(MAPPED)
        family = socket.AF_INET6 if ":" in there else socket.AF_INET
        wanted = _REQUEST.pack(
            family, socket.IPPROTO_TCP, 0, 1 << _ESTABLISHED, port_there.to_bytes(2, "big"), port.to_bytes(2, "big"),
            socket.inet_pton(family, there), socket.inet_pton(family, here), 0, _ANY, _ANY,
        )  # fmt: skip
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as kernel:
            kernel.settimeout(1.0)
            head = _HEADER.pack(_HEADER.size + len(wanted), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
            kernel.sendto(head + wanted, (0, 0))
            answer = kernel.recv(4096)
    except OSError:
        return None
    if len(answer) < _HEADER.size + _ANSWER.size or _HEADER.unpack_from(answer)[1] != _SOCK_DIAG_BY_FAMILY:
        return None
    _family, state, uid, inode = _ANSWER.unpack_from(answer, _HEADER.size)
    return uid if state == _ESTABLISHED and inode else None
