"""Parts of a rank's log for a page: the last lines, those before and after them, what was added, and a search.

A log may have gigabytes and lines of any length, so places are bytes, never line numbers, and nothing reads more than
a block at a time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ugro_py.api.beneath import open_beneath
from ugro_py.display import plain_line
from ugro_py.errors import NotFoundError
from ugro_py.paths import JobPaths

BLOCK = 1 << 18
"""Bytes that are read at once; a line that is longer is shown in pieces of this size."""
SHOWN = 4000
"""Bytes that are shown of one line; what is left out is counted."""
_SEARCHED = 64 << 20
_AROUND = 400


@dataclass(frozen=True)
class Line:
    """One line as it is shown: where its bytes begin and end in the log, its text, and how many bytes are not shown."""

    at: int
    end: int
    text: str
    left_out: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return it for a script of a page."""
        return {"at": self.at, "text": self.text} | ({"left_out": self.left_out} if self.left_out else {})


@dataclass(frozen=True)
class Window:
    """Lines that follow each other in a log of `size` bytes, from byte `start` up to `end`.

    `partial` is what stands behind them without an end of line yet, a progress bar say; `inode` tells a log that was
    written anew.
    """

    lines: tuple[Line, ...]
    start: int
    end: int
    size: int
    partial: str = ""
    inode: int = 0


NOTHING = Window((), 0, 0, 0)


@dataclass(frozen=True)
class Found:
    """Lines with what was looked for, newest first; `next_before` is where to search on, None: all was seen."""

    lines: tuple[Line, ...]
    next_before: int | None


def name_of(paths: JobPaths, rank: int, attempt: int | None, newest: int) -> str | None:
    """Return the log of a rank in an attempt, relative to the job's folder; None if that attempt kept none.

    Args:
        attempt: None is the newest one.
        newest: the number of the newest attempt.
    """
    if attempt is not None and attempt < newest:
        path = paths.mirror_of(attempt, "", paths.mirrored([rank])[-1])
        if path is None or path == paths.rank_log(rank):
            return None
    else:
        path = paths.rank_log(rank)
    return str(path.relative_to(paths.root))


def before(paths: JobPaths, name: str, place: int | None = None, limit: int = 200) -> Window:
    """Return up to `limit` lines that end before byte `place` (None: the end of the log).

    The bytes behind the last end of a line are the window's `partial`, when the end of the log is asked for.
    """
    with _opened(paths, name) as file:
        if file is None:
            return NOTHING
        status = os.fstat(file)
        stop = status.st_size if place is None else min(place, status.st_size)
        first = max(0, stop - BLOCK)
        block = os.pread(file, stop - first, first)
    partial = b""
    if place is None and (cut := block.rfind(b"\n") + 1) < len(block) and (cut or not first):
        block, partial = block[:cut], block[cut:]
    if first and (begin := block.find(b"\n") + 1) and begin < len(block):
        first, block = first + begin, block[begin:]  # the line that the block cuts in two belongs to the one before
    begin = _start_of_last(block, limit)
    lines = tuple(_lines(block[begin:], first + begin))
    end = first + len(block)
    return Window(lines, first + begin, end, status.st_size, _text(partial)[0], status.st_ino)


def after(paths: JobPaths, name: str, place: int, *, last: bool = False, limit: int = 500) -> Window:
    """Return up to `limit` whole lines that begin at byte `place` or later.

    Args:
        last: nothing will be added any more, so that a line without an end is one too.
    """
    with _opened(paths, name) as file:
        if file is None:
            return NOTHING
        status = os.fstat(file)
        place = min(place, status.st_size)
        block = os.pread(file, BLOCK, place)
    whole = block.rfind(b"\n") + 1
    if len(block) == BLOCK and not whole:
        whole = len(block)  # a piece of a longer line
    if last and place + len(block) >= status.st_size:
        whole = len(block)
    lines = tuple(islice(_lines(block[:whole], place), limit))
    end = lines[-1].end if lines else place
    partial = _text(block[whole:])[0] if end == place + whole else ""
    return Window(lines, place, end, status.st_size, partial, status.st_ino)


def search(
    paths: JobPaths, name: str, text: str, place: int | None = None, limit: int = 100, most_s: float = 1.0
) -> Found:
    """Look backwards from byte `place` (None: the end) for lines with `text`, whatever the case of its ASCII letters.

    It stops at `limit` lines, or after 64 MB or `most_s` seconds, and says where to go on.
    """
    wanted = text.encode("utf-8", "replace").lower()
    if not wanted:
        return Found((), None)
    found: list[Line] = []
    begun = time.monotonic()
    with _opened(paths, name) as file:
        if file is None:
            return Found((), None)
        size = os.fstat(file).st_size
        stop = size if place is None else min(place, size)
        seen = 0
        while stop > 0:
            if seen >= _SEARCHED or (seen and time.monotonic() - begun > most_s):
                return Found(tuple(found), stop)
            first = max(0, stop - BLOCK)
            # What is looked for may begin before `stop` and end behind it.
            block = os.pread(file, stop - first + len(wanted) - 1, first).lower()
            at = len(block)
            while (at := block.rfind(wanted, 0, at)) >= 0:
                line = _around(file, first + at, len(wanted))
                found.append(line)
                if len(found) >= limit:
                    return Found(tuple(found), line.at or None)
                if line.at <= first:
                    break
                at = line.at - first + len(wanted) - 1  # the other places in this line are shown with it
            seen += stop - first
            stop = min(first, found[-1].at) if found else first
    return Found(tuple(found), None)


def _around(file: int, at: int, length: int) -> Line:
    """Return the line that has the byte `at`, or what stands near it where it is long."""
    first = max(0, at - _AROUND)
    block = os.pread(file, at - first + length + SHOWN, first)
    begin = block.rfind(b"\n", 0, at - first) + 1
    end = block.find(b"\n", at - first)
    piece = block[begin : end if end >= 0 else len(block)]
    shown, left_out = _text(piece)
    return Line(first + begin, first + begin + len(piece), shown, left_out)


def _lines(block: bytes, first: int) -> Iterator[Line]:
    """Yield the lines of a block that begins at byte `first`: split at line feeds alone, what follows the last too."""
    at = 0
    while at < len(block):
        end = block.find(b"\n", at) + 1 or len(block)
        shown, left_out = _text(block[at:end].rstrip(b"\n"))
        yield Line(first + at, first + end, shown, left_out)
        at = end


def _start_of_last(block: bytes, count: int) -> int:
    """Return where the last `count` lines of a block begin."""
    at = len(block) - block.endswith(b"\n")
    for _ in range(count):
        at = block.rfind(b"\n", 0, at)
        if at < 0:
            return 0
    return at + 1


def _text(raw: bytes) -> tuple[str, int]:
    """Return what is shown of a line, without any control sequence, and how many of its bytes are not."""
    raw = raw.rstrip(b"\r")
    raw = raw[raw.rfind(b"\r") + 1 :]  # of a progress bar its last state
    left_out = max(0, len(raw) - SHOWN)
    return plain_line(raw[:SHOWN].decode("utf-8", "replace")), left_out


@contextmanager
def _opened(paths: JobPaths, name: str) -> Iterator[int | None]:
    """Give a descriptor of the log; None if it is not there (yet), or is a link that leads elsewhere."""
    try:
        file = open_beneath(paths.root, name)
    except NotFoundError:
        yield None
        return
    try:
        yield file
    finally:
        os.close(file)
