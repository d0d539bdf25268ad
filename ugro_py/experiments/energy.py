"""What a job's GPUs drew, from the power that its nodes read once a second."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ugro_py import metrics
from ugro_py.paths import JobPaths

LONGEST_GAP_S = 10.0
"""Between readings that lie further apart nothing is assumed: the node was away, or the next attempt had not begun."""
_MOST_W = 100_000.0


@dataclass(frozen=True)
class Energy:
    """What was measured: kWh of all GPUs, the mean power of one in W, and how many GPU hours the readings cover."""

    kwh: float
    mean_w: float
    covered_h: float


def measured(paths: JobPaths) -> Energy | None:
    """Return what the GPUs of a job drew over all attempts; None where none told (CPUs, cards without a reading).

    It is the cards' own reading, integrated over time: not what the machines around them drew.

    Raises:
        OSError: the central store cannot be read.
    """
    joules = seconds = 0.0
    for _, _, path in paths.event_copies():
        for watts, span in _steps(_readings(path)):
            joules, seconds = joules + watts * span, seconds + span
    return Energy(joules / 3.6e6, joules / seconds, seconds / 3600) if seconds else None


def _steps(readings: Iterable[tuple[float, str, float]]) -> Iterator[tuple[float, float]]:
    """Yield (mean watts, seconds) between two readings of the same GPU."""
    last: dict[str, tuple[float, float]] = {}
    for at, uuid, watts in readings:
        before = last.get(uuid)
        last[uuid] = (at, watts)
        if before is not None and 0 < at - before[0] <= LONGEST_GAP_S:
            yield (before[1] + watts) / 2, at - before[0]


def _readings(path: Path) -> Iterator[tuple[float, str, float]]:
    """Yield (unix time, GPU, watts) of the samples in a copy of a node's events; what is no reading is left out."""
    with path.open("rb") as stream:
        for raw in stream:
            if b'"power_w"' not in raw:
                continue
            event = metrics.parse(raw)
            if event is None or event.get("kind") != "sample" or not isinstance(event.get("gpus"), list):
                continue
            at = _number(event.get("t"))
            for gpu in event["gpus"]:
                watts = _number(gpu.get("power_w")) if isinstance(gpu, dict) else None
                if at is not None and watts is not None and 0 <= watts < _MOST_W:
                    yield at, str(gpu.get("uuid")), watts


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
