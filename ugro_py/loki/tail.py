"""What of a job's logs Loki has already: each rank's log as a tail that goes on after a restart where it was.

Lines carry no time, so each gets the moment at which it is read. That moment is kept before the push: lines that are
pushed again after a kill have the same time as before, and Loki keeps what is there twice only once.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ugro_py.loki.push import Stream
from ugro_py.paths import JobPaths

READ_BYTES = 1 << 18
"""So much of one log is read at once; a longer line is pushed in pieces."""
PIECE = 60_000
"""Characters of a line that Loki takes in any case: 256 KB are its limit, and a character has up to four bytes."""

AHEAD_NS = 300 * 10**9
"""Loki refuses what is 10 minutes ahead of its clock. Where the clock was set back, lines begin at what it says now."""


@dataclass
class Tail:
    """One rank's log in one attempt.

    Attributes:
        offset: so far Loki has it, in bytes.
        last_ns: the time of the last line that it has.
        pending: (end, time of the first line) of what was read last and is not known to be there; an end that is the
            offset leaves open how much is read, though not with what time.
    """

    paths: JobPaths
    attempt: int
    rank: int
    node: str
    offset: int = 0
    last_ns: int = 0
    pending: tuple[int, int] | None = None
    _lines: int = field(default=0, repr=False)

    @property
    def labels(self) -> tuple[tuple[str, str], ...]:
        """The labels of its stream."""
        rank, attempt = str(self.rank), str(self.attempt)
        return (("job", self.paths.job), ("rank", rank), ("node", self.node), ("attempt", attempt))

    def read(self, now_ns: int, *, last: bool, newest: bool, limit: int = READ_BYTES) -> Stream | None:
        """Return what is new, or again what was read last if that is not known to be there; None if nothing is.

        Args:
            now_ns: the time of the first new line, in nanoseconds since 1970.
            last: nothing comes after it: a line that has no end is taken too.
            newest: no later attempt has begun, so the log may be in its first place.
            limit: how many bytes are read at most.

        Raises:
            OSError: the log is there and cannot be read.
        """
        if self.pending is not None and self.pending[0] > self.offset:
            raw = self._bytes(self.pending[0] - self.offset, newest)
            if not raw:  # its folder is gone
                self.pending = None
                return None
        else:
            found = self._bytes(limit, newest)
            raw = found[: _whole(found, last=last and len(found) < limit, full=len(found) >= limit)]
            if not raw:
                return None
            self.pending = (self.offset + len(raw), self._begin(now_ns) if self.pending is None else self.pending[1])
        lines = _lines(raw)
        self._lines = len(lines)
        begin = self.pending[1]
        return Stream(self.labels, [(begin + number, line) for number, line in enumerate(lines)])

    def taken(self) -> None:
        """Note that what was read last is there, or is never going to be."""
        if self.pending is not None:
            end, begin = self.pending
            self.offset, self.last_ns, self.pending = end, begin + max(0, self._lines - 1), None

    def give_up(self) -> None:
        """Forget how much was read last, so that less is read the next time; each line keeps its time."""
        if self.pending is not None:
            self.pending = (self.offset, self.pending[1])

    def _begin(self, now_ns: int) -> int:
        return now_ns if self.last_ns > now_ns + AHEAD_NS else max(now_ns, self.last_ns + 1)

    def _bytes(self, count: int, newest: bool) -> bytes:
        kept = self.paths.attempt(self.attempt) / self.paths.rank_log(self.rank).name
        for path in (kept, self.paths.rank_log(self.rank)) if newest else (kept,):
            with contextlib.suppress(FileNotFoundError), path.open("rb") as stream:
                if path != kept and kept.exists():
                    return self._bytes(count, newest=False)  # it was moved: what is open may be the next attempt's
                stream.seek(self.offset)
                return stream.read(count)
        return b""


def _whole(raw: bytes, *, last: bool, full: bool) -> int:
    """Return how many bytes are whole lines; of a line that is longer than what is read at once, a piece."""
    if last:
        return len(raw)
    end = raw.rfind(b"\n") + 1
    if end == 0 and full:
        end = len(raw)
        while end > len(raw) - 4 and raw[end - 1] & 0xC0 == 0x80:
            end -= 1  # back to the first byte of a character that may be cut
        end -= raw[end - 1] >= 0xC0
    return end


def _lines(raw: bytes) -> list[str]:
    lines = []
    for line in raw.removesuffix(b"\n").split(b"\n"):
        text = line.decode("utf-8", "replace").removesuffix("\r")
        lines += [text[at : at + PIECE] for at in range(0, len(text), PIECE)] or [""]
    return lines


class JobLogs:
    """The tails of a job, kept in a file of its folder."""

    def __init__(self, job: str) -> None:
        self.paths = JobPaths(job)
        self.tails: dict[tuple[int, int], Tail] = {}
        self._known = _load(self.paths.loki)

    def add(self, attempt: int, rank: int, node: str) -> None:
        """Follow a rank of an attempt too, from where it was left."""
        if (attempt, rank) not in self.tails:
            self.tails[attempt, rank] = Tail(self.paths, attempt, rank, node, **_values(self._known, attempt, rank))

    def save(self) -> None:
        """Keep how far everything is; a folder that is gone needs nothing kept.

        Raises:
            OSError: it cannot be kept.
        """
        known = {
            f"{attempt}/{rank}": [tail.offset, tail.last_ns, *(tail.pending or ())]
            for (attempt, rank), tail in self.tails.items()
            if tail.offset or tail.pending
        }
        temporary = self.paths.loki.with_name(self.paths.loki.name + ".new")
        with contextlib.suppress(FileNotFoundError):
            temporary.write_text(json.dumps({**self._known, **known}), encoding="utf-8")
            temporary.replace(self.paths.loki)


def _load(path: Path) -> dict[str, Any]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # never kept, or damaged: all lines are pushed again
    return known if isinstance(known, dict) else {}


def _values(known: Mapping[str, Any], attempt: int, rank: int) -> dict[str, Any]:
    values = known.get(f"{attempt}/{rank}")
    if not isinstance(values, list) or len(values) not in (2, 4) or not all(type(value) is int for value in values):
        return {}
    pending = (values[2], values[3]) if len(values) == 4 and values[2] >= values[0] else None
    return {"offset": max(0, values[0]), "last_ns": values[1], "pending": pending}
