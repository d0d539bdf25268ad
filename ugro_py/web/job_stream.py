"""What one page of an experiment is sent while the job goes on: lines of its logs, parts that changed, new metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from ugro_py.api import sse
from ugro_py.api.standing import CHECK_S, Standing
from ugro_py.paths import JobPaths
from ugro_py.web import log_view
from ugro_py.web.following import Mark, Seen, Watch

_BEHIND = 4 << 20
"""Who is so many bytes behind, a slow reader or a flood of lines, goes on at the end of the log and is told so."""
_MOST_RANKS = 256


@dataclass(frozen=True)
class Place:
    """How far a log was sent: its inode (0: not there yet), its bytes, and the line without an end that was shown."""

    inode: int = 0
    at: int = 0
    partial: str = ""


def read_places(text: str) -> dict[int, Place]:
    """Return the places that a page names, `RANK:INODE:BYTE,…`; what is none is left out."""
    found = {}
    for word in text.split(",")[:_MOST_RANKS]:
        numbers = word.split(":")
        if len(numbers) == 3 and all(number.isascii() and number.isdigit() and len(number) < 19 for number in numbers):
            rank, inode, at = map(int, numbers)
            found[rank] = Place(inode, at)
    return found


def write_places(places: Mapping[int, Place]) -> str:
    """Return places as `read_places` takes them."""
    return ",".join(f"{rank}:{place.inode}:{place.at}" for rank, place in sorted(places.items()))


class JobStream:
    """One reader of a job.

    Args:
        job: its name.
        watch: tells what changed.
        rank: whose log is sent; None: of all ranks.
        places: how far the page has the logs already.
        logs: whether logs are sent at all: those of an earlier attempt do not grow.
    """

    def __init__(
        self, job: str, watch: Watch, *, rank: int | None, places: Mapping[int, Place], logs: bool = True
    ) -> None:
        self._paths = JobPaths(job)
        self._watch = watch
        self._rank = rank
        self._logs = logs
        self._places = dict(places)
        self._parts: dict[str, str] = {}

    async def messages(self, request: Request) -> AsyncIterator[bytes]:
        """Yield server-sent events until the job, the server or the session has ended."""
        known: Seen | None = None
        standing, trouble = Standing(request, request.state.viewer), ""
        yield sse.KEEP_ALIVE
        while True:
            seen = await self._watch.changed(known, CHECK_S)
            if request.app.state.closing.is_set() or not await standing.lasts():
                return
            if self._watch.trouble != trouble:
                trouble = self._watch.trouble
                yield sse.message(trouble, kind="trouble")
            if seen is None or seen is known:
                yield sse.KEEP_ALIVE
                continue
            # The lines first: they are what somebody waits for.
            async for message in self._lines(seen):
                yield message
            for name, html in seen.parts.items():
                if self._parts.get(name) != html:
                    self._parts[name] = html
                    yield sse.message({"part": name, "html": html}, kind="part")
            if known is None or seen.metrics != known.metrics:
                yield sse.message({"size": seen.metrics[1]}, kind="series")
            if seen.over:
                yield sse.message({}, kind="end")
                return
            known = seen

    async def _lines(self, seen: Seen) -> AsyncIterator[bytes]:
        for rank, mark in seen.logs.items() if self._logs else ():
            if self._rank is None or rank == self._rank:
                async for data in self._lines_of(rank, mark, seen.over):
                    yield sse.message(data, write_places(self._places), "log")

    async def _lines_of(self, rank: int, mark: Mark, over: bool) -> AsyncIterator[dict[str, Any]]:
        place = self._places.get(rank, Place())
        inode, size = mark
        told: dict[str, Any] = {"rank": rank}
        if (place.inode and inode != place.inode) or size < place.at:
            place, told["reset"] = Place(), True  # a new attempt writes a new log
        name = str(self._paths.rank_log(rank).relative_to(self._paths.root))
        while True:
            if size - place.at > _BEHIND:
                window = await run_in_threadpool(log_view.before, self._paths, name)
                told["skipped"] = window.start - place.at
            else:
                window = await run_in_threadpool(log_view.after, self._paths, name, place.at, last=over)
            before, place = place, replace(place, inode=inode, at=window.end, partial=window.partial)
            self._places[rank] = place
            if window.lines or window.partial != before.partial or len(told) > 1:
                lines = [line.to_json() for line in window.lines]
                yield told | {"lines": lines, "partial": window.partial, "end": window.end}
            told = {"rank": rank}
            if not window.lines or window.end >= size:
                return
