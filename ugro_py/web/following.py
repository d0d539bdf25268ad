"""What changes of a job while people look at it: one look at its files and its state for all of them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from ugro_py.errors import UgroError
from ugro_py.paths import JobPaths

FILES_S = 0.2
"""How often files are looked at: a line that a rank prints is on a page after that and the way from its node."""
_STATE_S = 1.0
_LINGER_S = 5.0
_BACK_OFF_S = 10.0
"""What cannot be seen is looked at less and less often, but so often at least."""
_log = logging.getLogger("ugro.web")

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

    Attributes:
        trouble: why nothing new is seen now; "" where there is no such reason.
    """

    def __init__(self, job: str, parts: Parts, closing: asyncio.Event) -> None:
        self._paths = JobPaths(job)
        self._parts = parts
        self._closing = closing
        self._seen: Seen | None = None
        self._state: tuple[bool, Mapping[str, str]] = (False, {})
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._asked_at = 0.0
        self._parts_due, self._parts_pause, self._parts_trouble = float("-inf"), _STATE_S, ""
        self._logged: set[type[Exception]] = set()
        self.trouble = ""

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

    async def end(self) -> None:
        """Look no more, and return when nothing of it runs."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _look(self) -> None:
        pause = FILES_S
        while time.monotonic() - self._asked_at < _LINGER_S and not self._closing.is_set():
            seen: Seen | None
            try:
                seen = await run_in_threadpool(self._now)
                trouble, pause = self._parts_trouble, FILES_S
            except Exception as error:  # noqa: BLE001  whatever it is: who looks must not take what was for what is
                seen, trouble, pause = self._seen, self._told(error), min(2 * pause, _BACK_OFF_S)
            if seen != self._seen or trouble != self.trouble:
                self._seen, self.trouble = seen, trouble
                self._changed.set()
                self._changed = asyncio.Event()
            if self.ended:
                return  # who waited has been told; a job that is resumed gets another watch
            await asyncio.sleep(pause)

    def _now(self) -> Seen:
        # The state first: what was written until the end of a job is seen in its files after that.
        if time.monotonic() >= self._parts_due:
            try:
                self._state, self._parts_trouble, self._parts_pause = self._parts(), "", _STATE_S
            except Exception as error:  # noqa: BLE001  pages show what they have, say so, and go on with the files
                self._parts_trouble, self._parts_pause = self._told(error), min(2 * self._parts_pause, _BACK_OFF_S)
            self._parts_due = time.monotonic() + self._parts_pause
        over, parts = self._state
        logs = {rank: _mark_of(self._paths, rank) for rank in self._paths.logged_ranks()}
        return Seen(logs, _mark_of(self._paths, None), parts, over)

    def _told(self, error: Exception) -> str:
        """Return what pages say of an error; a fault of ours is in the log, once of each kind."""
        if isinstance(error, UgroError):
            return f"Not live: {error}"
        if type(error) not in self._logged:
            self._logged.add(type(error))
            _log.error("job %s cannot be followed by its pages", self._paths.job, exc_info=error)
        return "Not live: an error inside the agent; see its log"


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


async def end_watches(app: FastAPI) -> None:
    """Let go of all watches, and return when none of them runs."""
    for watch in getattr(app.state, "watches", {}).values():
        await watch.end()
