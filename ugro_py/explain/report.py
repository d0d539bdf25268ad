"""An explanation for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from ugro_py.events import harmless
from ugro_py.explain.causes import Explanation


def lines(found: Explanation) -> Iterator[str]:
    """Yield the explanation as lines: what happened, what shows it, what followed, what to do."""
    attempt = f", attempt {found.attempt} of {found.attempts}" if found.attempts > 1 else ""
    yield harmless(f"Job {found.job}: {found.status}{attempt}")
    yield harmless(f"Cause: {found.title}")
    if found.drill:
        yield harmless(f"Note: {found.drill}")
    if found.evidence:
        yield "Evidence:"
        for line in found.evidence:
            place = f"{line.file}:{line.number}" if line.number else line.file
            yield harmless(f"  {place}: {line.text}"[:500])
    if found.consequences:
        yield "What followed:"
        for text in found.consequences:
            yield harmless(f"  {text}"[:300])
    if found.notes:
        yield "Also:"
        for text in found.notes[-5:]:
            yield harmless(f"  {text}"[:300])
    yield harmless(f"Next: {found.next_step}")
