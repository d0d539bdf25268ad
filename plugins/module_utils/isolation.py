# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Notice that this node is cut off from the others of its gang, so that its ranks do not hang on for half an hour.

A TCP connection is tried to each peer now and then. That it is refused is as good an answer as any; a peer counts
only once it has answered, so a firewall that drops the packets never looks like a pulled cable.
"""

from __future__ import annotations

import errno
import socket
import threading
import time
from typing import Optional, Sequence, Set

# The controller gives a silent node up 3.5 to 4.5 s after the cut, and needs a second more to start ranks elsewhere: by
# then these have ended. A cut of 2 s is outlived: 3.7 s at most from the last answer before it to the first after it.
ISOLATED_S = 4.5
_EVERY_S = 0.5
# After a miss more often: a cable that is back in time must be noticed in time.
_AGAIN_S = 0.2
_TIMEOUT_S = 1.0
# Hardly anything listens on the port of the discard protocol, and a refusal costs the peer nothing.
_PORT = 9


def answers(address: str, port: int = _PORT, timeout_s: float = _TIMEOUT_S) -> bool:
    """Say whether the host is there: it takes or refuses the connection."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(timeout_s)
        try:
            return probe.connect_ex((address, port)) in (0, errno.ECONNREFUSED)
        except OSError:
            return False  # a time-out, or an address that does not resolve


class IsolationWatch(threading.Thread):
    """Looks for the peers until the process ends.

    Args:
        peers: addresses of the gang's nodes on other machines; without any there is nothing to watch.
    """

    def __init__(self, peers: Sequence[str]) -> None:
        super().__init__(daemon=True)
        self._peers = list(peers)
        self._known: Set[str] = set()
        self._last_answer: Optional[float] = None
        self._misses = 0

    def run(self) -> None:
        while self._peers:
            # Those that answered before come first: one answer is enough to go on.
            for peer in sorted(self._peers, key=lambda peer: peer not in self._known):
                if answers(peer):
                    self._known.add(peer)
                    self._last_answer = time.monotonic()
                    self._misses = 0
                    break
            else:
                self._misses += 1
            time.sleep(_AGAIN_S if self._misses else _EVERY_S)

    def isolated(self) -> bool:
        """Say whether peers answered once and none has for `ISOLATED_S`; a machine too busy to ask proves nothing."""
        if self._last_answer is None or self._misses < 2:
            return False
        return time.monotonic() - self._last_answer > ISOLATED_S
