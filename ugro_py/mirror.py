"""Byte-for-byte copies, in the central store, of what one node writes during an attempt.

The size of a copy is the offset to go on from, so nothing else has to be remembered: after a lost connection or a
killed controller the next one asks for the rest. Each byte is written once, in order.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ugro_py.errors import StateError
from ugro_py.paths import EVENTS, JobPaths


class Mirror:
    """The copies of one node's files.

    Args:
        paths: the job's central store.
        attempt: number of the attempt.
        node: name of the node.
    """

    def __init__(self, paths: JobPaths, attempt: int, node: str) -> None:
        self._paths = paths
        self._attempt = attempt
        self._node = node
        self._rest = b""
        self._files: dict[str, Any] = {}
        paths.attempt(attempt).mkdir(mode=0o700, parents=True, exist_ok=True)
        paths.logs.mkdir(exist_ok=True)

    def _target(self, name: str) -> Path:
        """Return where the node's file `name` is kept; only the names that a supervisor uses exist."""
        target = self._paths.mirror_of(self._attempt, self._node, name)
        if target is None:
            raise StateError(
                f"{self._node}: file {name!r}", "is not one that a supervisor writes", "see its version of UGRO"
            )
        return target

    def offset(self, name: str) -> int:
        """Return how many bytes of the file are here."""
        target = self._target(name)
        return target.stat().st_size if target.exists() else 0

    def tail(self, name: str, count: int = 20) -> list[str]:
        """Return the last lines of the copy of a file; none if there is no copy."""
        target = self._target(name)
        return target.read_text("utf-8", "replace").splitlines()[-count:] if target.exists() else []

    def offsets(self, ranks: list[int]) -> dict[str, int]:
        """Return the offsets to follow the files of `ranks`, events and torchrun's log from."""
        return {name: self.offset(name) for name in self._paths.mirrored(ranks)}

    def has(self, sizes: dict[str, int]) -> bool:
        """Say whether everything up to `sizes` is here."""
        return all(self.offset(name) >= size for name, size in sizes.items())

    def write(self, name: str, offset: int, data: str) -> list[dict[str, Any]]:
        """Append a piece (base64) that starts at `offset`, and return the whole events it completes.

        A piece that is here already, or that would leave a gap, is left out.

        Raises:
            StateError: the central store cannot take it.
        """
        here = self.offset(name)
        raw = base64.b64decode(data)
        if offset > here or offset + len(raw) <= here:
            return []
        raw = raw[here - offset :]
        try:
            if name not in self._files:
                self._files[name] = self._target(name).open("ab", buffering=0)
            written = 0
            while written < len(raw):  # an unbuffered file may take less than it was given, on a full disk first of all
                written += self._files[name].write(raw[written:])
        except OSError as error:
            raise StateError(
                f"write {self._target(name)}", error.strerror or str(error), "make room in the central store"
            ) from error
        return self._events(raw) if name == EVENTS else []

    def _events(self, raw: bytes) -> list[dict[str, Any]]:
        *lines, self._rest = (self._rest + raw).split(b"\n")
        return [event for event in map(_parse, lines) if event is not None]

    def replay(self) -> Iterator[dict[str, Any]]:
        """Yield the events that are here already, and be ready for the rest."""
        target = self._target(EVENTS)
        if target.exists():
            yield from self._events(target.read_bytes())

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return the event in a line, or None for a line that a full disk or a power cut left broken."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "kind" in event else None
