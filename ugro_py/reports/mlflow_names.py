"""Names for MLflow: what it takes, is safe as a path, and is never the same for two things."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

_LONGEST = 200
_HASH = 8


class Names:
    """Gives each thing of one kind in one run (its metrics, its parameters, its tags) a name of its own.

    A name that MLflow takes stays as it is. Any other becomes letters, digits and `_ - . space` with a piece of its
    digest behind it: `a:b` and `a_b` stay two, and have the same names in every run. A `/` is no such letter: in a
    file store `a/b` would need a folder where the metric `a` is a file.
    """

    def __init__(self) -> None:
        self._given: dict[str, str] = {}

    def of(self, thing: str, text: str | None = None) -> str:
        """Return the name of a thing; `text` is how it is to be called, where that is not the thing itself."""
        text = thing if text is None else text
        name = _plain(text)
        if name != text:
            name = f"{name}.{_digest(text)}"
        if self._given.setdefault(name, thing) != thing:
            name = f"{name}.{_digest(thing)}"
            while self._given.setdefault(name, thing) != thing:  # somebody called another thing so on purpose
                name += "_"
        return name

    def changed(self) -> Iterator[tuple[str, str]]:
        """Yield (name, thing) of all that are called otherwise than they are."""
        yield from ((name, thing) for name, thing in self._given.items() if name != thing)


def _plain(text: str) -> str:
    kept = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_-. ") else "_" for letter in text)
    return kept.lstrip(".- ").rstrip(" ")[:_LONGEST] or "_"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH]
