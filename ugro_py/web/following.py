"""What changes of a job while people look at it: one look at its files and its state for all of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from ugro_py.errors import StateError
from ugro_py.paths import JobPaths

FILES_S = 0.2
"""How often files are looked at: a line that a rank prints is on a page after that and the way from its node."""
_STATE_S = 1.0
_LINGER_S = 5.0

Parts = Callable[[], tuple[bool, Mapping[str, str]]]
"""Returns whether a job is over, and the HTML of the parts of its page that change."""
Mark = tuple[int, int]
"""Inode and size of a file: what tells that it was added to, or written anew."""


@dataclass(frozen=True)
class Seen:
    """A job as it was last seen: the marks of its rank logs and of its metrics, and the parts of its page."""

    logs: Mapping[int, Mark] = field(default_factory=dict)
    metrics: Mark = (0, 0)
    parts: Mapping[str, str] = field(default_factory=dict)
    over: bool = False


class Watch:
    """One job that somebody follows. It looks as long as somebody waits, and a little longer.

    Args:
        job: its name.
        parts: what makes the changing parts of its page; called in a thread, at most once a second.
        closing: set when the server ends.
    """

    def __init__(self, job: str, parts: Parts, closing: asyncio.Event) -> None:
        self._paths = JobPaths(job)
        self._parts = parts
        self._closing = closing
        self._seen: Seen | None = None
        self._state: tuple[bool, Mapping[str, str]] = (False, {})
        self._state_at = float("-inf")
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._asked_at = 0.0

    @property
    def idle(self) -> bool:
        """Whether nobody follows the job any more."""
        return self._task is None or self._task.done()

    @property
    def ended(self) -> bool:
        """Whether the job was over when it was last seen."""
        return self._seen is not None and self._seen.over

    def begin(self) -> None:
        """Look, until nobody has waited for a while."""
        self._asked_at = time.monotonic()
        self._task = asyncio.create_task(self._look())

    async def changed(self, known: Seen | None, timeout_s: float) -> Seen | None:
        """Return the job as soon as it is seen to be other than `known`; what is known if that lasts too long."""
        deadline = time.monotonic() + timeout_s
        while self._seen is known and not self._closing.is_set():
            self._asked_at = time.monotonic()
            if self.idle:
                self.begin()
            left = min(deadline - time.monotonic(), 1.0)
            if left <= 0:
                break
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                continue
        return self._seen

    async def _look(self) -> None:
        while time.monotonic() - self._asked_at < _LINGER_S and not self._closing.is_set():
            seen = await run_in_threadpool(self._now)
            if seen != self._seen:
                self._seen = seen
                self._changed.set()
                self._changed = asyncio.Event()
            await asyncio.sleep(FILES_S)

    def _now(self) -> Seen:
        # The state first: what was written until the end of a job is seen in its files after that.
        if time.monotonic() - self._state_at >= _STATE_S:
            try:
                self._state = self._parts()
            except StateError:
                pass  # the database is away for a while: pages show what they have, and go on with the files
            self._state_at = time.monotonic()
        over, parts = self._state
        logs = {rank: _mark_of(self._paths, rank) for rank in self._paths.logged_ranks()}
        return Seen(logs, _mark_of(self._paths, None), parts, over)


def _mark_of(paths: JobPaths, rank: int | None) -> Mark:
    """Return the mark of a rank's log, or of the metrics."""
    try:
        status = (paths.metrics if rank is None else paths.rank_log(rank)).lstat()
    except OSError:
        return 0, 0
    return status.st_ino, status.st_size


def watch_of(app: FastAPI, job: str, parts: Parts) -> Watch:
    """Return the watch of a job that is shared by all its pages; those that nobody needs are let go."""
    watches: dict[str, Watch] | None = getattr(app.state, "watches", None)
    if watches is None:
        watches = app.state.watches = {}
    # Nor is one of any use that saw the job's end: the job may have been resumed since.
    for name in [name for name, watch in watches.items() if watch.idle or (watch.ended and name == job)]:
        del watches[name]
    if job not in watches:
        watches[job] = Watch(job, parts, app.state.closing)
        watches[job].begin()
    return watches[job]
