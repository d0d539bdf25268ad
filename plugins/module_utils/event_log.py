# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""The file ``events.jsonl`` of an attempt as its supervisor writes it."""

from __future__ import annotations

import json
import os
import time
from typing import Any

RESERVE_BYTES = 256 * 1024


class EventLog:
    """Appends events, one JSON object a line, each by one write so that a line is whole or absent.

    A reserve is kept on the disk, so that when it is full there is room to tell how the ranks ended.
    """

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._lost = 0
        self._torn = False
        self._reserve = path + ".reserve"
        try:
            with open(self._reserve, "wb") as file:
                file.write(bytes(RESERVE_BYTES))
        except OSError:
            pass  # full already; nothing to keep

    def write(self, kind: str, /, **values: Any) -> None:
        """Append an event. Both parameters are positional: a script may name a metric ``self``."""
        if self._lost:
            values["lost_before"] = self._lost
        line = json.dumps({"t": round(time.time(), 4), "kind": kind, **values}, allow_nan=False) + "\n"
        if self._append(line):
            self._lost = 0
        elif os.path.exists(self._reserve):
            self.free_reserve()
            self.write(kind, **values)
        else:
            self._lost += 1  # the job goes on, and the next event that fits says how many are missing

    def _append(self, line: str) -> bool:
        """Write a line; False where the disk is full. A torn line is closed, so that it does not spoil the next."""
        data = ("\n" if self._torn else "").encode() + line.encode()
        try:
            written = os.write(self._fd, data)
        except OSError:
            return False
        self._torn = written < len(data)
        return not self._torn

    def free_reserve(self) -> None:
        """Give the reserve back to the disk."""
        if os.path.exists(self._reserve):
            os.unlink(self._reserve)

    def sync(self) -> None:
        os.fsync(self._fd)
