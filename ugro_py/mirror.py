"""Byte-for-byte copies, in the central store, of what one node writes during an attempt.

The size of a copy is the offset to go on from, so nothing else has to be remembered: after a lost connection or a
killed controller the next one asks for the rest. Each byte is written once, in order. Logs have a limit, and wait on
the node where the central store has no room for them (log_room.py).
"""

from __future__ import annotations

import asyncio
import base64
import fcntl
import json
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ugro_py.errors import StateError
from ugro_py.paths import EVENTS, JobPaths
from ugro_py.plan import Gang

if TYPE_CHECKING:
    from ugro_py.transport import Session

NO_LIMIT = 1 << 62


class Mirror:
    """The copies of one node's files.

    Args:
        paths: the job's central store.
        attempt: number of the attempt.
        node: name of the node.
        ranks: those of the node: a job may write what it likes into the folder of its logs, and only these count.
        limit: how many bytes of each log are kept.

    Attributes:
        paused: logs are not written now; events are.
    """

    def __init__(
        self, paths: JobPaths, attempt: int, node: str, ranks: Collection[int] | None = None, limit: int = NO_LIMIT
    ) -> None:
        self.limit = limit
        self._names = None if ranks is None else {EVENTS, *paths.mirrored(ranks), *map(paths.stack_log, ranks)}
        self.paused = False
        self._full: set[str] = set()
        self._paths = paths
        self._attempt = attempt
        self._node = node
        self._rest = b""
        self._seen = 0  # so far the events are known
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

    def offsets(self, ranks: Collection[int]) -> dict[str, int]:
        """Return the offsets to follow the files of `ranks`, events and torchrun's log from."""
        return {name: self.offset(name) for name in self._paths.mirrored(ranks)}

    def wanted(self, ranks: Collection[int]) -> dict[str, Any]:
        """Return what the node is to send (the parameters of `follow`): from where on, and up to where of each log."""
        return {"offsets": self.offsets(ranks), "limit": 0 if self.paused else self.limit}

    def has(self, sizes: dict[str, int]) -> bool:
        """Say whether everything up to `sizes` is here that is to be here now."""
        return all(
            self.offset(name) >= (min(size, self.limit) if _is_log(name) else size)
            for name, size in sizes.items()
            if not self._left_out(name)
        )

    def _left_out(self, name: str) -> bool:
        """Say whether a file is not to be here: another's log, or any where there is no room for logs."""
        return _is_log(name) and (self.paused or (self._names is not None and name not in self._names))

    @property
    def cut(self) -> bool:
        """Whether one of its logs is not written now, or not any more."""
        logs = [name for name in self._names or self._files if _is_log(name)]
        return self.paused or any(self.offset(name) >= self.limit for name in logs)

    def newly_full(self) -> list[str]:
        """Return the logs that have reached their limit since this was asked last."""
        new = [name for name in self._files if name not in self._full and _is_log(name)]
        found = [name for name in new if self.offset(name) >= self.limit]
        self._full.update(found)
        return found

    def write(self, name: str, offset: int, data: str) -> list[dict[str, Any]]:
        """Append a piece (base64) that starts at `offset`, and return the whole events it completes.

        A piece that is here already, or that would leave a gap, is left out.

        Raises:
            StateError: the central store cannot take it.
        """
        if self._left_out(name):
            return []
        raw = base64.b64decode(data)
        try:
            if name not in self._files:
                self._files[name] = self._target(name).open("ab", buffering=0)
            file = self._files[name]
            # A controller that lost the job and does not know it yet may write too: of the two each byte comes once.
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                here = os.fstat(file.fileno()).st_size
                raw = raw[here - offset :] if offset <= here else b""
                if _is_log(name):
                    raw = raw[: max(0, self.limit - here)]
                written = 0
                while written < len(raw):  # an unbuffered file may take less than it was given, on a full disk first
                    written += file.write(raw[written:])
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)
            return [] if _is_log(name) else list(self.replay())
        except OSError as error:
            raise StateError(
                f"write {self._target(name)}", error.strerror or str(error), "make room in the central store"
            ) from error

    def _events(self, raw: bytes) -> list[dict[str, Any]]:
        *lines, self._rest = (self._rest + raw).split(b"\n")
        return [event for event in map(_parse, lines) if event is not None]

    def replay(self) -> Iterator[dict[str, Any]]:
        """Yield the events that are here and that this did not yield before, whoever wrote them."""
        target = self._target(EVENTS)
        if target.exists():
            with target.open("rb") as stream:
                stream.seek(self._seen)
                raw = stream.read()
            self._seen += len(raw)
            yield from self._events(raw)

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()


def mirror_of(gang: Gang, node: str) -> Mirror:
    """Return the copies of what a node writes of an attempt."""
    return Mirror(JobPaths(gang.job), gang.attempt, node, gang.numbers_on(node), gang.log_limit)


async def drain(
    session: Session, mirror: Mirror, key: Mapping[str, Any], look: Callable[[], object], patience_s: float = 10.0
) -> None:
    """Wait until a node that is followed has sent all it wrote; one that sends nothing for so long is let be.

    `look` is called all the while: what comes may be more than there is room for.

    Raises:
        NodeError: it does not answer.
    """
    here, deadline = -1, 0.0
    sizes = await session.call("sizes", **key)
    while not mirror.has(sizes):
        before, here = here, sum(map(mirror.offset, sizes))
        deadline = time.monotonic() + patience_s if here != before else deadline
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.02)
        look()
    await session.call("unfollow", **key)


def _is_log(name: str) -> bool:
    return name != EVENTS


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return the event in a line, or None for a line that a full disk or a power cut left broken."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "kind" in event else None
