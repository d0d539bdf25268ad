"""Values of options as people write them: GPUs, priorities, lengths of time. Pure: text in, numbers out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from ugro_py.errors import UsageError

PRIORITIES = {"urgent": 90, "normal": 50, "batch": 10}
"""Names of priorities; any whole number from 0 to 100 will do as well, higher first."""

NUMBERS: Mapping[str, tuple[int, int]] = {
    "epochs": (1, 1_000_000), "nodes": (1, 10_000), "gpus": (1, 100_000), "batch_size": (1, 1_000_000),
    "gradient_accumulation": (1, 1_000_000), "retry": (0, 1_000), "stall_timeout_s": (0, 366 * 86400),
    "priority": (0, 100), "min_nodes": (1, 10_000),
}  # fmt: skip
"""The least and the greatest that a number of a request may be, by its key."""

_COUNT = re.compile(r"[0-9]{1,6}")
_SIZE = r"(?:([0-9]{1,5}(?:\.[0-9]{1,3})?)(?:gb)?)"
_VRAM = re.compile(rf"(?:([0-9]{{1,6}})x)?{_SIZE}?\.\.{_SIZE}?", re.IGNORECASE)
_TIME = re.compile(r"(?:([0-9]{1,5})d)?(?:([0-9]{1,6})h)?(?:([0-9]{1,7})m)?(?:([0-9]{1,9})s?)?", re.IGNORECASE)
_LONGEST_S = 366 * 86400.0


class Gpus(NamedTuple):
    """What `--gpus` asks for: how many (None: not said), and the least and most memory of each, in GB."""

    number: int | None = None
    min_vram_gb: float | None = None
    max_vram_gb: float | None = None


def gpus(text: str | int | None) -> Gpus:
    """Read `--gpus`: `2`, `24GB..` (any that have 24 GB or more), `2x24GB..`, `2x8GB..16GB`, `..16GB`.

    Raises:
        UsageError: it is none of these, or the range is empty.
    """
    if text is None:
        return Gpus()
    words = str(text).strip()
    if _COUNT.fullmatch(words):
        return Gpus(int(words))
    found = _VRAM.fullmatch(words)
    if not found or (found[2] is None and found[3] is None):
        raise UsageError(f"--gpus {_shown(words)}", "is no number of GPUs and no range of memory",
                         "write 2, 24GB.., 2x24GB.. or 2x8GB..16GB")  # fmt: skip
    least, most = (float(found[2]) if found[2] else None), (float(found[3]) if found[3] else None)
    if least is not None and most is not None and most < least:
        raise UsageError(f"--gpus {words}", "the range is empty", "write the smaller size first")
    return Gpus(int(found[1]) if found[1] else None, least, most)


def priority(text: str | int | None) -> int:
    """Read `--priority`: urgent, normal, batch, or 0 to 100; normal where it is not given.

    Raises:
        UsageError: it is none of these.
    """
    if text is None:
        return PRIORITIES["normal"]
    word = str(text).strip().lower()
    if word in PRIORITIES:
        return PRIORITIES[word]
    if not _COUNT.fullmatch(word) or int(word) > 100:
        raise UsageError(f"--priority {_shown(word)}", "is no priority", "use urgent, normal, batch or 0 to 100")
    return int(word)


def time_limit(text: str | float | None) -> float | None:
    """Read `--time-limit`: `2h30m`, `90m`, `1d`, or a number of seconds; returns seconds.

    Raises:
        UsageError: it is no length of time, is zero, or is longer than a year.
    """
    if text is None:
        return None
    word = str(text).strip()
    found = _TIME.fullmatch(word)
    if not word or not found:
        raise UsageError(f"--time-limit {_shown(word)}", "is no length of time", "write 2h30m, 90m or seconds")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    total = float(86400 * days + 3600 * hours + 60 * minutes + seconds)
    if not 0 < total <= _LONGEST_S:
        raise UsageError(f"--time-limit {_shown(word)}", "must be above zero and at most 366 days", "correct it")
    return total


def _shown(text: str) -> str:
    """Return a person's word as it can stand in one line."""
    clean = "".join(letter if letter.isprintable() else "?" for letter in text)
    return clean if len(clean) <= 40 else clean[:37] + "..."
