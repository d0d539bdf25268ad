"""What `ugro results ls` and the Experiments page can be filtered and sorted by, and what tags and notes may hold."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ugro_py.errors import UsageError

TEXTS = ("status", "user", "model", "dataset", "tag")
"""Compared as text: `=`, `!=`, and `~` for "contains"."""
NUMBERS = {
    "steps": "steps",
    "duration": "duration_s",
    "duration_s": "duration_s",
    "loss": "loss_last",
    "loss_last": "loss_last",
    "best": "loss_best",
    "loss_best": "loss_best",
    "throughput": "throughput_tokens_sec",
    "throughput_tokens_sec": "throughput_tokens_sec",
    "gpu_hours": "gpu_hours",
    "energy": "energy_kwh",
    "energy_kwh": "energy_kwh",
}
"""Compared as numbers: the words people type, and the columns they mean."""
SORTS = ("created", "job", *TEXTS[:-1], *NUMBERS)

TAGS_AT_MOST, NOTE_AT_MOST = 30, 20_000
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/=-]{0,39}")
_FILTER = re.compile(r"\s*([a-z_]+)\s*(!=|<=|>=|=|<|>|~)\s*(.*?)\s*", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # tabs and line ends stay


@dataclass(frozen=True)
class Filter:
    """One condition; `number` is set where the column holds numbers."""

    key: str
    relation: str
    text: str
    number: float | None = None


def parse(words: Iterable[str]) -> tuple[Filter, ...]:
    """Return the conditions that words like `status=failed`, `tag!=bad`, `model~llama`, `loss<3.2` stand for.

    Raises:
        UsageError: one of them is no condition.
    """
    return tuple(_filter(word) for word in words)


def _filter(word: str) -> Filter:
    found = _FILTER.fullmatch(word)
    key, relation, text = found.groups() if found else ("", "", "")
    if key in NUMBERS and relation != "~":
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if math.isfinite(number):
            return Filter(NUMBERS[key], relation, text, number)
        raise UsageError(f"filter {word!r:.80}", f"{text!r:.40} is not a number", f"write {key}{relation}3.2, say")
    if key in TEXTS and relation in ("=", "!=", "~") and is_text(text):
        if key == "status" and relation != "~":
            _check_status(word, text)
        return Filter(key, relation, text)
    known = key in TEXTS or key in NUMBERS
    raise UsageError(
        f"filter {word!r:.80}", f"{key!r} is no key" if key and not known else "is no condition",
        f"write KEY=VALUE with a key of {', '.join(TEXTS)} (also != and ~ for contains), "
        f"{', '.join(NUMBERS)} (also != < <= > >=)",
    )  # fmt: skip


def _check_status(word: str, text: str) -> None:
    from ugro_py.state.models import JOB_STATUSES

    if text not in JOB_STATUSES:
        raise UsageError(f"filter {word!r:.80}", f"{text!r:.40} is no status", f"use {', '.join(JOB_STATUSES)}")


def sort_key(word: str) -> tuple[str, bool]:
    """Return the column of a word like `loss` or `-created`, and whether the greatest comes first.

    Raises:
        UsageError: there is no such column.
    """
    name = word.removeprefix("-").strip()
    if name not in SORTS:
        raise UsageError(
            f"sort by {word!r:.60}", "is no column", f"choose one of {', '.join(SORTS)}; -NAME turns it round"
        )
    return NUMBERS.get(name, name), word.startswith("-")


def is_text(text: str) -> bool:
    """Say whether every database and terminal takes it: no NUL, no half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def check_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Return tags in order, each once.

    Raises:
        UsageError: one is not valid, or they are too many.
    """
    found = sorted(set(tags))
    for tag in found:
        if not _TAG.fullmatch(tag):
            advice = "use 1 to 40 of A-Z a-z 0-9 . _ : / = - and begin with a letter or a digit"
            raise UsageError(f"tag {tag!r:.60}", "is not valid", advice)
    if len(found) > TAGS_AT_MOST:
        raise UsageError(f"{len(found)} tags", f"a job has {TAGS_AT_MOST} at most", "remove some with -TAG")
    return tuple(found)


def changed_tags(old: Iterable[str], changes: Iterable[str]) -> tuple[str, ...]:
    """Return the tags after changes like `+good` (or `good`) and `-bad`.

    Raises:
        UsageError: one is not valid, or they are too many.
    """
    tags = set(old)
    for change in changes:
        name = change.removeprefix("+").removeprefix("-") if change[:1] in "+-" else change
        check_tags([name])
        tags = tags - {name} if change.startswith("-") else tags | {name}
    return check_tags(tags)


def check_note(text: str) -> str:
    """Return a note with plain line ends and without other control characters.

    Raises:
        UsageError: it is too long, or no text.
    """
    if not is_text(text):
        raise UsageError("note", "holds characters that are no text", "leave them out")
    plain = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    plain = _CONTROL.sub("", plain)
    if len(plain) > NOTE_AT_MOST:
        advice = "keep it short; the Markdown notes of the experiment take any length"
        raise UsageError("note", f"has {len(plain)} characters, {NOTE_AT_MOST} at most", advice)
    return plain
