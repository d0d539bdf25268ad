"""What a job prints must not fill the master's disk: a limit for each log, and no more logs where room runs out.

The job goes on either way, and so do its events. What is beyond a log's limit is not kept. What was not copied for
want of room lies on its node until there is room, or somebody collects it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ugro_py.mirror import Mirror

LOW_BYTES = 1 << 30
LOW_SHARE = 0.02
"""The central store has too little room for logs below the smaller of the two."""
RESUME = 2
"""Once it had too little there must be so many times as much, else logs that are copied again would stop at once."""
_EVERY_S = 1.0


def free_bytes(folder: Path) -> int:
    """Return the room on the file system of a folder."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def limit_bytes(folder: Path) -> int:
    """Return below how much room the file system of a folder has too little for logs."""
    status = os.statvfs(folder)
    return int(min(LOW_BYTES, LOW_SHARE * status.f_blocks * status.f_frsize))


def is_low(folder: Path, *, was: bool = False) -> bool:
    """Say whether the file system of a folder has too little room for logs; `was`: it had too little before."""
    return free_bytes(folder) < limit_bytes(folder) * (RESUME if was else 1)


class LogRoom:
    """Watches over the logs of one attempt.

    Args:
        folder: the job's folder in the central store.
        mirrors: the copies by node.
        tell: called with the kind and the text of an event.
        follow: called when every node is to send anew what `Mirror.wanted` says.
    """

    def __init__(
        self,
        folder: Path,
        mirrors: Mapping[str, Mirror],
        tell: Callable[[str, str], None],
        follow: Callable[[], object],
    ) -> None:
        self._folder, self._mirrors, self._tell, self._follow = folder, mirrors, tell, follow
        self._low = False
        self._due = 0.0

    @property
    def deaf(self) -> bool:
        """Whether a rank may print what does not come here."""
        return any(mirror.cut for mirror in self._mirrors.values())

    def look(self, *, ending: bool = False, last: bool = False) -> None:
        """Look whether anything is to be done; to be called several times a second.

        Args:
            ending: nothing is written any more, so that logs are copied again wherever there is just room for them.
            last: all that is to be copied is here.
        """
        now = time.monotonic()
        if now < self._due and not ending and not last:
            return
        self._due = now + _EVERY_S
        for node, mirror in self._mirrors.items():
            for name in mirror.newly_full():
                said = f"{name} of {node} has reached its limit of {mirror.limit / 2**30:g} GB"
                self._tell("log_limit", f"{said}: what comes after that is not kept")
        low = is_low(self._folder, was=self._low and not ending)
        if low == self._low or last:
            return
        self._low = low
        for mirror in self._mirrors.values():
            mirror.paused = low
        room = f"{free_bytes(self._folder) / 2**30:.2f} GB are free in the central store"
        if low:
            wanted = f"{RESUME * limit_bytes(self._folder) / 2**30:.2g} GB"
            self._tell("logs_paused", f"{room}: logs stay on the nodes until {wanted} are; the job goes on")
        else:
            self._tell("logs_resumed", f"{room}: logs are copied again")
        self._follow()
