"""Answers of the dashboard that took work: made once for all who look, until the job they are of has written more."""

from __future__ import annotations

import json
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI
from starlette.responses import Response

from ugro_py.paths import JobPaths

_KEPT = 64
_KEPT_BYTES = 64 << 20
_AHEAD = 2


@dataclass
class _Making:
    """An answer in the making: `threads` make it or wait for it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    threads: int = 0


class Kept:
    """Answers as JSON, by job and by what was asked of it. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._making: dict[tuple[Any, ...], _Making] = {}
        self._answers: OrderedDict[tuple[Any, ...], tuple[object, bytes]] = OrderedDict()
        self._pool = ThreadPoolExecutor(_AHEAD, "charts")

    def get(self, job: str, key: object, make: Callable[[], object]) -> tuple[str, bytes]:
        """Return a tag of the answer, and the answer as it is now; one thread calls `make`, the others wait for it."""
        with self._one_at_a_time((job, key)):
            mark = mark_of(job)
            tag = f'"{abs(hash((job, key, mark))):x}"'
            with self._lock:
                known = self._answers.get((job, key))
                if known is not None and known[0] == mark:
                    self._answers.move_to_end((job, key))
                    return tag, known[1]
            answer = as_json(make())
            with self._lock:
                self._answers[job, key] = (mark, answer)
                self._answers.move_to_end((job, key))
                size = sum(len(one) for _, one in self._answers.values())
                while len(self._answers) > _KEPT or (size > _KEPT_BYTES and len(self._answers) > 1):
                    _, (_, old) = self._answers.popitem(last=False)
                    size -= len(old)
        return tag, answer

    @contextmanager
    def _one_at_a_time(self, key: tuple[Any, ...]) -> Iterator[None]:
        """Hold what others wait for who want the same answer; the last of them leaves nothing behind."""
        with self._lock:
            making = self._making.setdefault(key, _Making())
            making.threads += 1
        try:
            with making.lock:
                yield
        finally:
            with self._lock:
                making.threads -= 1
                if not making.threads:
                    del self._making[key]

    def last(self, job: str, key: object) -> bytes | None:
        """Return the newest answer there is, however old."""
        with self._lock:
            known = self._answers.get((job, key))
        return None if known is None else known[1]

    def ahead(self, job: str, key: object, make: Callable[[], object]) -> None:
        """Begin with an answer that will be asked for in a moment; what is wrong with it is told when it is."""
        self._pool.submit(self.get, job, key, make)


def kept_of(app: FastAPI) -> Kept:
    """Return the answers that an application keeps."""
    found: Kept | None = getattr(app.state, "kept", None)
    if found is None:
        found = app.state.kept = Kept()
    return found


def mark_of(job: str) -> tuple[tuple[int, int], ...]:
    """Return what is other as soon as a job has written more metrics or samples."""
    paths = JobPaths(job)
    marks = []
    for path in (paths.metrics, *(path for _, _, path in paths.event_copies())):
        try:
            status = path.stat()
        except OSError:
            continue  # not there yet, or moved meanwhile
        marks.append((status.st_ino, status.st_size))
    return tuple(marks)


def json_answer(values: object) -> Response:
    """Return values as an answer; a number that is none becomes null, as charts have it."""
    return Response(as_json(values), media_type="application/json")


def as_json(values: object) -> bytes:
    """Return values as JSON that every browser reads."""
    try:
        text = json.dumps(values, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_finite(values), allow_nan=False, separators=(",", ":"))
    return text.encode()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
