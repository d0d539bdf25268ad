"""How the code of two jobs differs, as a unified diff of what was kept when they were submitted."""

from __future__ import annotations

import difflib
from pathlib import Path

from ugro_py.errors import StateError, UsageError
from ugro_py.queue import spool

LARGEST_FILE, LARGEST_DIFF = 256 << 10, 256 << 10
_NO_NEWLINE = "\n\\ No newline at end of file\n"


def unified(one: str, other: str) -> str | None:
    """Return the unified diff from the code of job `one` to that of job `other`; "" if it is the same.

    None where the code of one of them was not kept. Files that are large or no text are only named; a very long diff
    is cut off, and says so.
    """
    left, right = _code_of(one), _code_of(other)
    if left is None or right is None:
        return None
    parts: list[str] = []
    size = 0
    for name in sorted({*left, *right}):
        part = _difference(one, other, name, left.get(name), right.get(name))
        size += len(part)
        if size > LARGEST_DIFF:
            parts.append("... the diff is longer; `ugro pull` both jobs to see all of it\n")
            break
        parts.append(part)
    return "".join(parts)


def _code_of(job: str) -> dict[str, Path] | None:
    try:
        code = spool.load(job).code
    except (StateError, UsageError, OSError):
        return None
    return {name: code.root / name for name in code.files}


def _difference(one: str, other: str, name: str, left: Path | None, right: Path | None) -> str:
    old, new = _text(left), _text(right)
    if old == new:
        return ""
    before, after = f"{one}/{name}" if left else "/dev/null", f"{other}/{name}" if right else "/dev/null"
    if isinstance(old, bytes) or isinstance(new, bytes):
        return f"Binary files {before} and {after} differ\n"
    found = difflib.unified_diff(old.splitlines(keepends=True), new.splitlines(keepends=True), before, after)
    return "".join(line if line.endswith("\n") else line + _NO_NEWLINE for line in found)


def _text(path: Path | None) -> str | bytes:
    """Return the text of a file, where a link leads, or as bytes what cannot be compared line by line."""
    if path is None:
        return ""
    try:
        if path.is_symlink():
            return f"link to {path.readlink()}\n"
        content = path.read_bytes()
    except OSError as error:
        return f"cannot be read: {error.strerror}\n"
    if len(content) > LARGEST_FILE or b"\0" in content:
        return content
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content
