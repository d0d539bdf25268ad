"""`metrics.jsonl` of the central store, derived from the copies of the nodes' events (docs/architecture.md)."""

from __future__ import annotations

import fcntl
import heapq
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Any

from ugro_py.errors import StateError
from ugro_py.paths import JobPaths

# The seed's fields, in its order; every line has them all, null where unknown.
FIELDS = (
    "timestamp", "job_id", "attempt", "rank", "step", "gpu_util", "gpu_mem_used_gb", "training_loss",
    "throughput_tokens_sec", "gradient_norm", "learning_rate",
)  # fmt: skip

# From this size in bytes on the lines get columns beside them (`ugro_py.series`); fewer are read as fast as they are.
COLUMNS_FROM = 2 << 20

# (unix time, the line for metrics.jsonl, its values, offset behind its event)
_Metrics = tuple[float, bytes, dict[str, Any], int]


def rebuild(paths: JobPaths) -> int:
    """Write `metrics.jsonl` anew from the event copies and return its number of lines.

    Lines are in order of attempt, then of time as the nodes' clocks tell it; ties go by the node's name. The
    file is replaced by a rename, so that a reader sees the old or the new one.

    Raises:
        StateError: the central store cannot be read or written.
    """
    with _exclusive(paths):
        count = _rebuild(paths)[0]
        size = paths.metrics.stat().st_size
    if size >= COLUMNS_FROM:
        from ugro_py import series

        series.catch_up(paths)
    return count


def read(paths: JobPaths) -> Iterator[dict[str, Any]]:
    """Yield the lines of `metrics.jsonl` one by one; broken ones, like a last one being written, are skipped."""
    try:
        stream = paths.metrics.open("rb")
    except FileNotFoundError:
        return
    with stream:
        for raw in stream:
            line = parse(raw)
            if line is not None:
                yield line


class Appender:
    """Keeps `metrics.jsonl` up to date while events arrive; what it writes is what `rebuild` would write.

    Their columns (`ugro_py.series`) follow in a thread, some MB at a time.
    It reads the event copies itself, so call `poll` after having written to them. The first poll rebuilds.
    Another process may rebuild at the same time: a lock keeps the two apart.
    """

    def __init__(self, paths: JobPaths) -> None:
        self._paths = paths
        self._offsets: dict[Path, int] = {}
        self._left: tuple[int, int] | None = None  # inode and size of the file as this process left it
        self._columns: Thread | None = None
        self._columns_from = COLUMNS_FROM

    def poll(self) -> list[dict[str, Any]]:
        """Append what is new in the event copies and return it, in the order of the file.

        Raises:
            StateError: the central store cannot be read or written.
        """
        with _exclusive(self._paths):
            before = dict(self._offsets)
            if self._left is None or self._left != _inode_and_size(self._paths.metrics) or self._shrunk():
                self._offsets = _rebuild(self._paths)[1]
                self._left = _inode_and_size(self._paths.metrics)
                self._columns_from = COLUMNS_FROM
                return [values for _, _, values, _ in _merged(self._paths, before, self._offsets)]
            new = list(_merged(self._paths, before, {}, self._offsets))
            if new:
                with self._paths.metrics.open("ab") as stream:
                    stream.write(b"".join(line for _, line, _, _ in new))
                self._left = _inode_and_size(self._paths.metrics)
                self._add_columns()
            return [values for _, _, values, _ in new]

    def _add_columns(self) -> None:
        """Begin to add columns if enough lines have come that have none: in a thread, for a poll must not wait."""
        size = self._left[1] if self._left else 0
        if size >= self._columns_from and not (self._columns and self._columns.is_alive()):
            self._columns_from = size + COLUMNS_FROM
            # A daemon: what is torn when the process ends is cut off by the next to look.
            self._columns = Thread(target=_catch_up, args=[self._paths], name="columns", daemon=True)
            self._columns.start()

    def _shrunk(self) -> bool:
        return any(not path.is_file() or path.stat().st_size < at for path, at in self._offsets.items())


def _catch_up(paths: JobPaths) -> None:
    from ugro_py import series

    try:
        series.catch_up(paths)
    except StateError:
        pass  # `poll` meets the same disk and says so; who reads the columns makes what is missing


def _rebuild(paths: JobPaths) -> tuple[int, dict[Path, int]]:
    offsets: dict[Path, int] = {}
    count = 0
    temporary = paths.metrics.with_name(f".{paths.metrics.name}.new")
    with temporary.open("wb") as stream:
        for _, line, _, _ in _merged(paths, {}, {}, offsets):
            stream.write(line)
            count += 1
    temporary.replace(paths.metrics)
    paths.series(paths.metrics).unlink(missing_ok=True)  # the columns of the file that was replaced
    return count, offsets


def _merged(
    paths: JobPaths, start: dict[Path, int], end: dict[Path, int], reached: dict[Path, int] | None = None
) -> Iterator[_Metrics]:
    """Yield the metrics of all attempts between the offsets; note in `reached` how far whole lines go."""
    by_attempt: dict[int, list[Iterator[_Metrics]]] = {}
    for attempt, _, path in paths.event_copies():
        stream = _metrics_of(path, paths.job, attempt, start.get(path, 0), end.get(path), reached)
        by_attempt.setdefault(attempt, []).append(stream)
    for streams in by_attempt.values():
        yield from heapq.merge(*streams, key=lambda found: found[0])


def _metrics_of(
    path: Path, job: str, attempt: int, start: int, end: int | None, reached: dict[Path, int] | None
) -> Iterator[_Metrics]:
    at = start
    with path.open("rb") as stream:
        stream.seek(start)
        for raw in stream:
            if not raw.endswith(b"\n") or (end is not None and at >= end):
                break
            at += len(raw)
            if reached is not None:
                reached[path] = at
            event = parse(raw) if b'"metrics"' in raw else None
            if event is not None and event.get("kind") == "metrics":
                found = _line(event, job, attempt)
                if found is not None:
                    yield (*found, at)


def _line(event: dict[str, Any], job: str, attempt: int) -> tuple[float, bytes, dict[str, Any]] | None:
    moment = event.pop("t", None)
    del event["kind"]
    if not isinstance(event.get("rank"), int) or not isinstance(moment, int | float):
        return None
    values: dict[str, Any] = {**dict.fromkeys(FIELDS), **event, "job_id": job, "attempt": attempt}
    try:
        if not values["timestamp"]:
            values["timestamp"] = datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return float(moment), json.dumps(values, allow_nan=False).encode() + b"\n", values
    except (ValueError, OverflowError, OSError):  # a number that is none, or no time at all
        return None


def parse(raw: bytes) -> dict[str, Any] | None:
    """Return the JSON object of a line, or None if it is none."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _inode_and_size(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_size


@contextmanager
def _exclusive(paths: JobPaths) -> Iterator[None]:
    """Hold the lock of the job's `metrics.jsonl`: a lock on its folder, so that no file is left behind."""
    try:
        folder = os.open(paths.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)
    except OSError as error:
        raise StateError(
            f"{paths.metrics}: derive it from the events", str(error), "check the disk and the permissions"
        ) from error
