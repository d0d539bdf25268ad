# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""The network interfaces of this machine with all their addresses, by getifaddrs(3)."""

from __future__ import annotations

import ctypes
import socket

TYPE_CHECKING = False  # importing typing costs a node 3 ms
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Sequence

_IFF_UP = 0x1
_IFF_RUNNING = 0x40


class _Ifaddrs(ctypes.Structure):
    """struct ifaddrs of <ifaddrs.h>."""


_Ifaddrs._fields_ = [
    ("ifa_next", ctypes.POINTER(_Ifaddrs)),
    ("ifa_name", ctypes.c_char_p),
    ("ifa_flags", ctypes.c_uint),
    ("ifa_addr", ctypes.c_void_p),
    ("ifa_netmask", ctypes.c_void_p),
    ("ifa_ifu", ctypes.c_void_p),
    ("ifa_data", ctypes.c_void_p),
]


def _address(sockaddr: Optional[int]) -> Optional[str]:
    """Return the IPv4 or IPv6 address at this pointer to a struct sockaddr, None for other families."""
    if not sockaddr:
        return None
    family = ctypes.c_ushort.from_address(sockaddr).value
    if family == socket.AF_INET:
        return socket.inet_ntop(family, ctypes.string_at(sockaddr + 4, 4))
    if family == socket.AF_INET6:
        return socket.inet_ntop(family, ctypes.string_at(sockaddr + 8, 16))
    return None


def read_interfaces() -> List[Dict[str, Any]]:
    """Return ``[{name, addresses, up}]`` in the kernel's order; up means enabled and with a carrier.

    Raises:
        OSError: the kernel refused.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    first = ctypes.POINTER(_Ifaddrs)()
    if libc.getifaddrs(ctypes.byref(first)):
        raise OSError(ctypes.get_errno(), "getifaddrs failed")
    found: Dict[str, Dict[str, Any]] = {}
    try:
        entry = first
        while entry:
            item = entry.contents
            name = item.ifa_name.decode(errors="replace")
            interface = found.setdefault(name, {"name": name, "addresses": [], "up": False})
            interface["up"] = item.ifa_flags & (_IFF_UP | _IFF_RUNNING) == _IFF_UP | _IFF_RUNNING
            address = _address(item.ifa_addr)
            if address is not None:
                interface["addresses"].append(address)
            entry = item.ifa_next
    finally:
        libc.freeifaddrs(first)
    return list(found.values())


def holding(interfaces: Sequence[Dict[str, Any]], addresses: Sequence[str]) -> Optional[str]:
    """Return the name of the interface that holds one of `addresses`, or None.

    All of 127.0.0.0/8 is the loopback's, though the kernel lists 127.0.0.1 alone.
    """
    for interface in interfaces:
        for address in addresses:
            if address in interface["addresses"]:
                return str(interface["name"])
            if address.startswith("127.") and "127.0.0.1" in interface["addresses"]:
                return str(interface["name"])
    return None
