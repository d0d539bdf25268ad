"""Where a job is: the newest metrics of each rank, how fast it goes and when it will be done."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ugro_py.paths import JobPaths

# The newest metrics of every rank are in the last lines of metrics.jsonl: a step of many ranks is longer.
_TAIL_BYTES, _RANK_BYTES, _LONGEST_TAIL = 1 << 16, 1 << 10, 1 << 20
# A file is read again only when it has changed: (size, time of change, bytes read) and what was found then.
_KEPT = 256
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
    tail = min(max(_TAIL_BYTES, _RANK_BYTES * ranks), _LONGEST_TAIL)
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
    found = []
    for line in raw:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue  # the first line of the piece may be cut, the last one not whole yet
        if isinstance(value, dict) and whole(value.get("rank")) is not None:
            found.append(value)
    if len(_cache) >= _KEPT:
        _cache.pop(next(iter(_cache)), None)
    _cache[str(paths.metrics)] = (stat, found)
    return found


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


def steps_per_second(lines: Sequence[Mapping[str, Any]], rank: int, elapsed_s: float | None) -> float | None:
    """Return the pace of a rank over `lines`; where they are too close together, since the job began to run.

    Args:
        lines: of one job, oldest first.
        rank: whose steps are counted.
        elapsed_s: since the job began to run.
    """
    own = [line for line in lines if line["rank"] == rank]
    attempt = own[-1].get("attempt") if own else None
    steps = [(_time(line), finite(line.get("step"))) for line in own if line.get("attempt") == attempt]
    known = [(at, step) for at, step in steps if at is not None and step is not None]
    if not known:
        return None
    (begun, first), (last_at, last) = known[0], known[-1]
    if last_at - begun >= 3.0 and last > first:  # times are whole seconds
        return finite((last - first) / (last_at - begun))
    return finite(last / elapsed_s) if elapsed_s else None


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
    pace = steps_per_second(lines, first, elapsed_s) if elapsed_s is not None else None
    return {
        "step": whole(line.get("step")),
        "total_steps": whole(line.get("total_steps")),
        "loss": None if lost else _mean([finite(line.get("training_loss")) for line in newest.values()]),
        "loss_nonfinite": lost,
        "throughput_tokens_sec": tokens_per_second(newest),
        "eta_s": seconds_left(line.get("step"), line.get("total_steps"), pace),
        "ranks": newest,
    }
