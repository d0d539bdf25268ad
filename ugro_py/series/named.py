"""Names of numbers in a sentence: a script may tell hundreds, and an error is a line that somebody reads."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

_MOST = 20


def some_of(names: Sequence[str], meant: str) -> str:
    """Return the names with commas between; of many those most like the one that is `meant`, the first, and a count."""
    if len(names) <= _MOST:
        return ", ".join(names)
    like = get_close_matches(meant[:80], names, 5)
    shown = [*like, *(name for name in names if name not in like)][:_MOST]
    return f"{', '.join(shown)} and {len(names) - len(shown):,} more"
