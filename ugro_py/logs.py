"""Logs of a job's ranks from the central store: print them, or follow them until the job has ended."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from ugro_py.display import safe_line
from ugro_py.errors import NotFoundError
from ugro_py.paths import JobPaths

if TYPE_CHECKING:
    from ugro_py.state import Store

Form = Literal["raw", "terminal", "json"]

_BLOCK = 1 << 16
_LONGEST = 1 << 20  # a longer line is shown in pieces
_POLL_S = 0.1
_STORE_S = 0.5
_RECONCILE_S = 5.0
# How often a progress bar, a line that is written over and over and never ends, is shown while following.
_BAR_S = 1.0


def kept_attempt(store: Store, job: str, wanted: int | None) -> int | None:
    """Return the attempt whose kept logs are meant; None: those that grow, which are the newest attempt's.

    Args:
        wanted: the attempt that was asked for; None is the newest.

    Raises:
        NotFoundError: there is no such job or attempt.
    """
    if wanted is None:
        return None
    newest = store.attempt(job)
    if newest is None or wanted > newest.number:
        raise NotFoundError(f"attempt {wanted} of job {job!r}", "there is none", f"run `ugro status {job}`")
    # Before the next attempt begins, the newest one's logs are put aside already.
    return wanted if wanted < newest.number or JobPaths(job).logged_ranks(wanted) else None


def choose_ranks(
    paths: JobPaths, wanted: str, known: Sequence[int], *, attempt: int | None = None, over: bool = False
) -> list[int]:
    """Return the ranks to show.

    Args:
        wanted: "all" or a number.
        known: the ranks of the attempt; ranks that have a log (of an earlier attempt) exist too.
        attempt: see `kept_attempt`.
        over: the job has ended, so that what it wrote has to be there.

    Raises:
        NotFoundError: the job has no such rank, its folder is gone, or the attempt kept no log.
    """
    if over and known and not paths.root.is_dir():
        raise NotFoundError(f"logs of job {paths.job}", f"there is no folder {paths.root} any more")
    logged = paths.logged_ranks(attempt)
    if attempt is not None and not logged:
        raise NotFoundError(
            f"logs of attempt {attempt} of job {paths.job}", "it kept none", f"see `ugro status {paths.job}`"
        )
    ranks = sorted({*known, *logged})
    if wanted == "all":
        return ranks
    if int(wanted) not in ranks:
        has = f"it has the ranks {', '.join(map(str, ranks))}" if ranks else "it has no ranks yet"
        raise NotFoundError(f"rank {wanted} of job {paths.job}", "does not exist", has)
    return [int(wanted)]


def pieces(
    paths: JobPaths, ranks: Sequence[int], form: Form, tail: int | None = None, attempt: int | None = None
) -> Iterator[bytes]:
    """Yield the logs of `ranks` (of `kept_attempt`), one rank after the other, the last `tail` lines of each."""
    if form == "raw" and tail is None and len(ranks) == 1:
        only = paths.rank_log(ranks[0], attempt)
        if only.exists():
            with only.open("rb") as stream:
                while block := stream.read(_BLOCK):  # byte for byte, to be piped or saved
                    yield block
        return
    for rank in ranks:
        log = _Log(paths.rank_log(rank, attempt))
        log.start(tail)
        for line in log.lines(last=True):
            yield _shown(line, rank, form, several=len(ranks) > 1)


class Follower:
    """The logs of all ranks as they grow.

    Args:
        ranks: asked again and again, since ranks appear when the job starts.
        tail: begin with so many of the lines that are there already; None: with all of them.
    """

    def __init__(
        self, paths: JobPaths, ranks: Callable[[], Sequence[int]], form: Form, tail: int | None = None
    ) -> None:
        self._paths, self._ranks, self._form, self._tail = paths, ranks, form, tail
        self._logs: dict[int, _Log] = {}

    def poll(self, last: bool = False) -> Iterator[bytes]:
        """Yield what is new; with `last` also a line that has no end yet."""
        for rank in self._ranks():
            if rank not in self._logs:
                self._logs[rank] = _Log(self._paths.rank_log(rank))
                self._logs[rank].start(self._tail)
        for rank, log in self._logs.items():
            for line in log.lines(last=last):
                yield _shown(line, rank, self._form, several=len(self._logs) > 1)


def follow(
    paths: JobPaths,
    ranks: Callable[[], Sequence[int]],
    is_over: Callable[[], bool],
    out: BinaryIO,
    form: Form,
    tail: int | None = None,
) -> None:
    """Write the logs of all ranks as they grow, until the job is over and everything was written.

    Args:
        ranks: asked again and again, since ranks appear when the job starts.
        is_over: tells whether the job has ended.
        tail: begin with so many of the lines that are there already; None: with all of them.
    """
    follower = Follower(paths, ranks, form, tail)
    while True:
        over = is_over()  # asked before reading: what was written until the end is read below
        for piece in follower.poll(last=over):
            out.write(piece)
        out.flush()
        if over:
            return
        time.sleep(_POLL_S)


@dataclass
class _Log:
    """One rank's log, and how far it was read."""

    path: Path
    _offset: int = 0
    _inode: int = 0
    _rest: bytes = b""
    _bar_at: float = field(default_factory=time.monotonic)

    def start(self, tail: int | None) -> None:
        """Go to the last `tail` lines; None: to the start."""
        if tail is not None and self.path.exists():
            with self.path.open("rb") as stream:
                self._offset = _tail_offset(stream, tail)

    def lines(self, last: bool = False) -> Iterator[bytes]:
        """Yield whole lines that are new, without their end; with `last` also one that has none."""
        try:
            stream = self.path.open("rb")
        except FileNotFoundError:
            return
        with stream:
            stat = os.fstat(stream.fileno())
            if stat.st_size < self._offset or (self._inode and stat.st_ino != self._inode):
                self._offset, self._rest = 0, b""  # written anew
            self._inode = stat.st_ino
            stream.seek(self._offset)
            while block := stream.read(_BLOCK):
                self._offset += len(block)
                *whole, self._rest = (self._rest + block).split(b"\n")
                if whole:
                    self._bar_at = time.monotonic()
                yield from whole
                if len(self._rest) > _LONGEST:
                    yield self._rest
                    self._rest = b""
        if self._rest and last:
            yield self._rest
            self._rest = b""
        elif b"\r" in self._rest and time.monotonic() - self._bar_at >= _BAR_S:
            drawn, _, self._rest = self._rest.rpartition(b"\r")
            self._bar_at = time.monotonic()
            yield drawn


def _tail_offset(stream: BinaryIO, count: int) -> int:
    """Return where the last `count` lines begin; an unfinished last one counts as one."""
    at = end = stream.seek(0, os.SEEK_END)
    if count == 0:
        return end
    while at > 0:
        start = max(0, at - _BLOCK)
        stream.seek(start)
        block = stream.read(at - start)
        # The very last newline ends a line and begins none.
        until = len(block) - (at == end and block.endswith(b"\n"))
        while (found := block.rfind(b"\n", 0, until)) >= 0:
            count -= 1
            if count == 0:
                return start + found + 1
            until = found
        at = start
    return 0


def _shown(line: bytes, rank: int, form: Form, several: bool) -> bytes:
    if form == "json":
        text = line.decode("utf-8", "replace").rstrip("\r")
        return json.dumps({"rank": rank, "line": text}).encode() + b"\n"
    if form == "terminal":
        line = safe_line(line.decode("utf-8", "replace")).encode()
    return (b"[rank %d] " % rank if several else b"") + line + b"\n"


def end_of(store: Store, job: str) -> Callable[[], bool]:
    """Return a function that tells whether `job` has ended; it asks the store at most twice a second.

    A job whose controller died would run for ever in the store, so that is looked into as well.

    Raises:
        NotFoundError: there is no such job.
    """
    from ugro_py.reconcile import reconcile

    store.job(job)
    asked = reconciled = float("-inf")
    over = False

    def is_over() -> bool:
        nonlocal asked, reconciled, over
        now = time.monotonic()
        if not over and now - asked >= _STORE_S:
            asked = now
            if now - reconciled >= _RECONCILE_S:
                reconcile(store, job)
                reconciled = now
            over = not store.job(job).active
        return over

    return is_over
