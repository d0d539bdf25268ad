"""Python's tracebacks in a log: what was raised, and where in the user's own code. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

HEAD = "Traceback (most recent call last):"
_CHAINED = re.compile(r"^(During handling of the above exception|The above exception was the direct cause)")
# torch's excepthook marks each line with its rank.
_MARK = re.compile(r"^\[(?:default|rank)\d+\]:\s?")
_FRAME = re.compile(r'^\s+File "([^"]+)", line (\d+)(?:, in (.+))?$')
_RAISED = re.compile(
    r"^([A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Warning|Failure|Timeout|[A-Z]\w*))(?:: (.*))?$"
)
_LIBRARY = re.compile(r"(?:^<|/(?:site|dist)-packages/|/lib/python3[.\d]*/)")
_MESSAGE_LINES = 12
# C++ says so right behind it where threads of a library outlive the interpreter: no part of what was raised.
_ABORTED = "terminate called"


@dataclass(frozen=True)
class Line:
    """A line of a log: the file (relative to the job's folder), its number from 1, its text."""

    file: str
    number: int
    text: str


@dataclass(frozen=True)
class Raised:
    """An exception in a log.

    Attributes:
        kind: the exception's class as printed.
        message: what it said, several lines as one text.
        line: where it stands in the log.
        frame: the innermost frame of the user's code, "file:line in function"; "" if all are a library's.
        code: that frame's source line.
        causes: the exceptions that led to it, first one first.
    """

    kind: str
    message: str
    line: Line
    frame: str = ""
    code: str = ""
    causes: tuple[Raised, ...] = ()

    @property
    def text(self) -> str:
        """The exception as Python prints it, in one line."""
        return f"{self.kind}: {' '.join(self.message.split())}" if self.message else self.kind


def plain(text: str) -> str:
    """Return a line without torch's mark of the rank."""
    return _MARK.sub("", text)


def last_raised(lines: Sequence[Line]) -> Raised | None:
    """Return the last exception that a log tells of with its traceback; None if there is none."""
    heads = [number for number, line in enumerate(lines) if plain(line.text).strip() == HEAD]
    found: list[tuple[int, int, Raised]] = []
    for head in heads:
        one = _read(lines, head)
        if one is not None:
            found.append((head, *one))
    if not found:
        return _without_head(lines)
    *before, (start, _end, last) = found
    causes: list[Raised] = []
    for head, end, raised in reversed(before):
        between = [plain(line.text) for line in lines[end:start]]
        if len(between) > 2 * _MESSAGE_LINES or not any(_CHAINED.match(text) for text in between):
            break
        causes.insert(0, raised)
        start = head
    return Raised(last.kind, last.message, last.line, last.frame, last.code, tuple(causes))


def _read(lines: Sequence[Line], head: int) -> tuple[int, Raised] | None:
    """Read the traceback that begins at `head`; returns where it ends and what was raised."""
    frame = code = ""
    at = head + 1
    while at < len(lines) and plain(lines[at].text)[:1] in (" ", "\t"):
        text = plain(lines[at].text)
        match = _FRAME.match(text)
        if match and not _LIBRARY.search(match[1]):
            frame = f"{_short(match[1])}:{match[2]}" + (f" in {match[3]}" if match[3] else "")
            following = plain(lines[at + 1].text) if at + 1 < len(lines) else ""
            code = following.strip() if following[:4].isspace() and not _FRAME.match(following) else ""
        at += 1
    if at == len(lines):
        return None  # cut off: the process was killed while it printed
    match = _RAISED.match(plain(lines[at].text).rstrip())
    if match is None:
        return None
    end = at + 1
    message = [match[2] or ""]
    while end < len(lines) and len(message) < _MESSAGE_LINES:
        text = plain(lines[end].text)
        if not text.strip() or text.strip() == HEAD or _CHAINED.match(text) or text.startswith(_ABORTED):
            break
        message.append(text)
        end += 1
    return end, Raised(match[1], "\n".join(message).strip(), lines[at], frame, code)


def _without_head(lines: Sequence[Line]) -> Raised | None:
    """A script that cannot be compiled is told of without a traceback."""
    for at in range(len(lines) - 1, max(-1, len(lines) - 6), -1):
        match = _RAISED.match(plain(lines[at].text).rstrip())
        if match and match[1] in ("SyntaxError", "IndentationError", "TabError"):
            frames = [_FRAME.match(plain(line.text)) for line in lines[max(0, at - 4) : at]]
            frame = next((f"{_short(f[1])}:{f[2]}" for f in reversed(frames) if f), "")
            return Raised(match[1], match[2] or "", lines[at], frame)
    return None


def _short(path: str) -> str:
    """Return a path as the user knows it: below the folder that was copied to the node."""
    for mark in ("/code/",):
        if mark in path:
            return path.rpartition(mark)[2]
    return path
