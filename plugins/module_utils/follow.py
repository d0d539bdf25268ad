# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Send what is appended to an attempt's files, from any offset on: how logs and events reach the controller."""

from __future__ import annotations

import base64
import os
import threading
import time

from .attempt import Attempt

TYPE_CHECKING = False  # importing typing costs a node 3 ms
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Optional

_POLL_S = 0.05
_CHUNK = 1 << 18


class Follower(threading.Thread):
    """Pushes new bytes of ``events.jsonl`` and of each log, and a heartbeat a second, until told to stop.

    Args:
        attempt: whose files.
        offsets: path relative to the attempt's folder -> how many bytes the controller has already.
        push: called with each message, from this thread.
        limit: no more than so many bytes of each log are sent; None sends all.
    """

    def __init__(
        self,
        attempt: Attempt,
        offsets: Dict[str, int],
        push: Callable[[Dict[str, Any]], None],
        limit: Optional[int] = None,
    ) -> None:
        super().__init__(daemon=True)
        self._attempt = attempt
        self._offsets = dict(offsets)
        self._push = push
        self._limit = limit
        self._stop_asked = threading.Event()

    def stop(self) -> None:
        self._stop_asked.set()

    def run(self) -> None:
        next_look = 0.0
        key = {"job": self._attempt.job, "attempt": self._attempt.number}
        while not self._stop_asked.is_set():
            now = time.monotonic()
            if now >= next_look:
                next_look = now + 0.5
                for name in self._log_names():
                    self._offsets.setdefault(name, 0)
                self._push(dict(key, push="state", state=self._attempt.status()["state"]))
            # A list: each file gets its turn, `any` over a generator would stop at the first.
            sent = [self._send(name, key) for name in list(self._offsets)]
            if not any(sent):
                self._stop_asked.wait(_POLL_S)

    def _log_names(self) -> list:
        try:
            names = os.listdir(self._attempt.path("logs"))
        except FileNotFoundError:
            return []
        return ["logs/" + name for name in names if name.endswith(".log")] + ["events.jsonl"]

    def _send(self, name: str, key: Dict[str, Any]) -> bool:
        """Send the next piece of a file; True if there was one."""
        offset, path = self._offsets[name], self._attempt.path(name)
        chunk = _CHUNK
        if self._limit is not None and name != "events.jsonl":
            chunk = min(chunk, self._limit - offset)
            if chunk <= 0:
                return False
        try:
            if os.stat(path).st_size <= offset:
                return False  # the usual case, twenty times a second: without opening the file
            with open(path, "rb") as file:
                file.seek(offset)
                data = file.read(chunk)
        except FileNotFoundError:
            return False
        if not data:
            return False
        text = base64.b64encode(data).decode("ascii")
        self._push(dict(key, push="bytes", path=name, offset=offset, data=text))
        self._offsets[name] = offset + len(data)
        return True
