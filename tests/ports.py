# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Ports for servers that a test starts a moment later: nobody else is given them until then."""

from __future__ import annotations

import itertools
import os
import socket

# Below those that the kernel gives to connections and to who asks for any port, and below `support.MASTER_PORT`:
# between the question whether one of the kernel's is free and its use, another worker may have got it.
_FIRST, _EACH, _WORKERS = 10_000, 1_500, 4
_OWN = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
# Another run of tests on this machine begins elsewhere.
_TURNS = itertools.count(os.getpid() * 7)


def free_port() -> int:
    """Return a port that nobody listens at now, on any address; no other worker gets it, nor soon this one again."""
    for turn in itertools.islice(_TURNS, _EACH):
        port = _FIRST + _OWN * _EACH + turn % _EACH
        if _is_free(socket.AF_INET, port) and (not socket.has_dualstack_ipv6() or _is_free(socket.AF_INET6, port)):
            return port
    raise OSError("no port is free")


def _is_free(family: socket.AddressFamily, port: int) -> bool:
    with socket.socket(family) as probe:
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
