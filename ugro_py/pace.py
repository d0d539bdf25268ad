"""Where a job is: the newest metrics of each rank, how fast it goes and when it will be done."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from ugro_py.paths import JobPaths

# The newest metrics of every rank are in the last lines of metrics.jsonl: a step of many ranks is longer.
_TAIL_BYTES, _RANK_BYTES, _LONGEST_TAIL = 1 << 16, 1 << 10, 1 << 20
# A file is read again only when it has changed: (size, time of change, bytes read) and what was found then.
_KEPT = 256
# Times are whole seconds: what is closer together tells no pace.
_RESOLVED_S = 3.0
# Of steps that come one by one so many are kept, hardly closer than this: their times are exact.
_STEPS, _APART_S = 240, 1.0
_cache: dict[str, tuple[tuple[int, int, int], list[dict[str, Any]]]] = {}


def finite(value: object) -> float | None:
    """Return a number that a script reported, None for what is none: text, truth values, NaN, infinity."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # a whole number beyond what a float holds
        return None


def whole(value: object) -> int | None:
    """Return a count that a script reported, None for what is none."""
    number = finite(value)
    return None if number is None else int(number)


def newest_lines(paths: JobPaths, ranks: int = 0) -> list[dict[str, Any]]:
    """Return the last lines of a job's `metrics.jsonl` that name a rank, oldest first; broken ones are left out.

    Who says how many `ranks` there are gets lines of each, however many these are.
    """
    tail = _tail(ranks)
    try:
        with paths.metrics.open("rb") as file:
            stat = (*_stat(file.fileno()), tail)
            known = _cache.get(str(paths.metrics))
            if known is not None and known[0] == stat:
                return known[1]
            file.seek(max(0, stat[0] - tail))
            raw = file.read(tail + (1 << 12)).splitlines()
    except FileNotFoundError:
        return []
    found = list(_values(raw))
    if len(_cache) >= _KEPT:
        _cache.pop(next(iter(_cache)), None)
    _cache[str(paths.metrics)] = (stat, found)
    return found


def _tail(ranks: int) -> int:
    """Return how many bytes hold a line of each of so many ranks."""
    return min(max(_TAIL_BYTES, _RANK_BYTES * ranks), _LONGEST_TAIL)


def _values(raw: Sequence[bytes]) -> Iterator[dict[str, Any]]:
    for line in raw:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue  # the first line of the piece may be cut, the last one not whole yet
        if isinstance(value, dict) and whole(value.get("rank")) is not None:
            yield value


def _further_back(paths: JobPaths, ranks: int) -> Iterator[Iterator[dict[str, Any]]]:
    """Yield the lines of pieces of `metrics.jsonl` before its tail, each four times as far from the end as the last."""
    back = tail = _tail(ranks)
    with contextlib.suppress(FileNotFoundError), paths.metrics.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        while back < size:
            back = min(4 * back, size)
            file.seek(size - back)
            yield _values(file.read(tail).splitlines())


def _stat(descriptor: int) -> tuple[int, int]:
    stat = os.fstat(descriptor)
    return stat.st_size, stat.st_mtime_ns


def by_rank(lines: Sequence[Mapping[str, Any]]) -> dict[int, dict[str, Any]]:
    """Return the newest of `lines` of each rank, of the newest attempt among them."""
    attempt = max((whole(line.get("attempt")) or 0 for line in lines), default=0)
    newest = {}
    for line in lines:
        if (whole(line.get("attempt")) or 0) == attempt:
            newest[int(line["rank"])] = dict(line)
    return dict(sorted(newest.items()))


def tokens_per_second(newest: Mapping[int, Mapping[str, Any]]) -> float | None:
    """Return the throughput of all ranks together, None where no rank tells any."""
    known = [value for line in newest.values() if (value := finite(line.get("throughput_tokens_sec")))]
    return finite(sum(known)) if known else None


def seconds_left(step: object, total: object, steps_per_second: float | None) -> float | None:
    """Return how long the remaining steps take; None where that cannot be said."""
    at, end = finite(step), finite(total)
    if at is None or end is None or not steps_per_second or steps_per_second <= 0:
        return None
    return finite(max(0.0, end - at) / steps_per_second)


def steps_per_second(
    lines: Sequence[Mapping[str, Any]],
    rank: int,
    elapsed_s: float | None,
    earlier: Iterable[Iterable[Mapping[str, Any]]] = (),
) -> float | None:
    """Return the pace of a rank in its newest attempt; None where it cannot be told.

    Args:
        lines: of one job, oldest first.
        rank: whose steps are counted.
        elapsed_s: since the job began to run: what counts of a first attempt that has just begun.
        earlier: parts of what was told before, the latest first: asked for where `lines` are too close together.
    """
    own = [line for line in lines if line["rank"] == rank]
    attempt = own[-1].get("attempt") if own else None
    known = _told(own, rank, attempt)
    if not known:
        return None
    (begun, first), (last_at, last) = known[0], known[-1]
    for part in earlier if last_at - begun < _RESOLVED_S else ():
        before = _told(part, rank, attempt, at_most=1)  # none where the attempt had not begun, or lines are long
        begun, first = before[0] if before else (begun, first)
        if last_at - begun >= _RESOLVED_S:
            break
    if last_at - begun >= _RESOLVED_S:
        return finite((last - first) / (last_at - begun))
    if len(known) < 2 or whole(attempt) not in (None, 1) or not elapsed_s:
        return None  # the time of earlier attempts is in `elapsed_s`
    # A script may begin at a step of another job, and tell only every so many.
    return finite((last - first + known[1][1] - known[0][1]) / elapsed_s)


class Pace:
    """The pace of one rank of one attempt whose steps come one by one."""

    def __init__(self) -> None:
        self._told: deque[tuple[float, float]] = deque(maxlen=_STEPS)

    def take(self, at: float, step: float) -> None:
        """Take in that it had done `step` at `at`, in Unix seconds."""
        if self._told and (at < self._told[-1][0] or step < self._told[-1][1]):
            self._told.clear()  # it begins anew
        if len(self._told) > 1 and at - self._told[-2][0] < _APART_S:
            self._told.pop()
        self._told.append((at, step))

    def steps_per_second(self) -> float | None:
        """Return the pace of the newest steps; None where they are too few, or too close together."""
        if not self._told:
            return None
        (begun, first), (at, step) = self._told[0], self._told[-1]
        return finite((step - first) / (at - begun)) if at - begun >= _APART_S else None


def _told(
    lines: Iterable[Mapping[str, Any]], rank: int, attempt: object, at_most: int | None = None
) -> list[tuple[float, float]]:
    """Return when a rank told which step of an attempt, the first ones in `lines`."""
    told = ((_time(line), finite(line.get("step"))) for line in lines if _is_of(line, rank, attempt))
    return list(islice(((at, step) for at, step in told if at is not None and step is not None), at_most))


def _is_of(line: Mapping[str, Any], rank: int, attempt: object) -> bool:
    return line["rank"] == rank and line.get("attempt") == attempt


def _time(line: Mapping[str, Any]) -> float | None:
    try:
        return datetime.fromisoformat(str(line.get("timestamp"))).timestamp()
    except (ValueError, OverflowError):
        return None


def _names(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else ()


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return finite(math.fsum(value / len(known) for value in known)) if known else None  # their sum may be too large


def progress(paths: JobPaths, elapsed_s: float | None, count: int = 0) -> dict[str, Any]:
    """Return where a job is, as JSON values.

    Args:
        paths: whose metrics are read.
        elapsed_s: since it began to run; None for a job that does not run, which has no ETA.
        count: how many ranks it has, as far as that is known.

    Returns:
        `step`, `total_steps`, `loss` (the mean of what each rank told last, as in all lists of jobs; None where one
        told NaN or infinity last, which `loss_nonfinite` says),
        `throughput_tokens_sec` of all ranks, `eta_s`; None where unknown. And `ranks`: the newest metrics of each by
        its number.
    """
    lines = newest_lines(paths, count)
    newest = by_rank(lines)
    first = next(iter(newest), 0)
    line = newest.get(first, {})
    lost = any("training_loss" in _names(line.get("nonfinite")) for line in newest.values())
    pace = None
    if elapsed_s is not None:
        pace = steps_per_second(lines, first, elapsed_s, _further_back(paths, count))
    return {
        "step": whole(line.get("step")),
        "total_steps": whole(line.get("total_steps")),
        "loss": None if lost else _mean([finite(line.get("training_loss")) for line in newest.values()]),
        "loss_nonfinite": lost,
        "throughput_tokens_sec": tokens_per_second(newest),
        "eta_s": seconds_left(line.get("step"), line.get("total_steps"), pace),
        "ranks": newest,
    }
