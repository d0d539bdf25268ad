# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Ranks that stand still: stopped by a signal, or without CPU time and output for long while the gang waits.

A stopped process (state T) will not go on by itself, so that is said as a fact (``rank_frozen``). One that neither
computes nor writes may be waiting for something that comes (``rank_idle``): that is told, and nothing follows from it
unless the job has a stall time-out. Either way the stack is written to ``logs/rank_N.stack.log`` first.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any, Dict, List, Sequence

from . import processes, stack_dump

FROZEN_S = 4.0
IDLE_S = 10.0
# A rank that only waits still has threads that wake up now and then: so much CPU time is none.
_IDLE_SHARE = 0.01


class _Seen:
    """What was seen of one rank, and since when nothing has changed."""

    def __init__(self, now: float) -> None:
        self.stopped_since = 0.0
        self.moved_at = now
        self.ticks = 0
        self.written = -1
        self.told = ""


class FrozenWatch:
    """Looks at the ranks of this node, about once a second.

    Args:
        attempt_dir: the attempt's folder.
        python: the interpreter of the training; py-spy is looked for beside it.
    """

    def __init__(self, attempt_dir: str, python: str) -> None:
        self._dir = attempt_dir
        self._python = python
        self._seen: Dict[int, _Seen] = {}
        self._per_second = os.sysconf("SC_CLK_TCK")

    def look(self, ranks: Sequence[Any]) -> List[Dict[str, Any]]:
        """Return the events that are due, for ranks that live."""
        now = time.monotonic()
        found = []
        for rank in ranks:
            state, ticks = processes.state_and_ticks(rank.pid)
            seen = self._seen.setdefault(rank.rank, _Seen(now))
            if ticks - seen.ticks > _IDLE_SHARE * self._per_second * max(1.0, now - seen.moved_at) or (
                rank.written != seen.written
            ):
                seen.ticks, seen.written, seen.moved_at = ticks, rank.written, now
            seen.stopped_since = (seen.stopped_since or now) if state == "T" else 0.0
            kind, since = "", 0.0
            if seen.stopped_since and now - seen.stopped_since >= FROZEN_S:
                kind, since = "rank_frozen", seen.stopped_since
            elif not seen.stopped_since and now - seen.moved_at >= IDLE_S:
                kind, since = "rank_idle", seen.moved_at
            if kind and kind != seen.told:
                seen.told = kind
                self._dump(rank, kind)
                found.append({"kind": kind, "rank": rank.rank, "seconds": round(now - since, 1)})
            elif not kind and seen.told and now - seen.moved_at < IDLE_S:
                found.append({"kind": "rank_moves", "rank": rank.rank})
                seen.told = ""
        return found

    def _dump(self, rank: Any, kind: str) -> None:
        path = os.path.join(self._dir, "logs", "rank_%d.stack.log" % rank.rank)
        target = threading.Thread(target=stack_dump.write, args=(rank.pid, self._python, path, kind), daemon=True)
        target.start()  # in a thread: py-spy can take seconds, and the supervisor has ranks to watch
