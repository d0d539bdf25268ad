"""Paired measurements: both sides in turn, again and again, so that a busy machine slows both alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Result:
    """One benchmark: what UGRO took (or reached) and what the work by hand did, repetition by repetition.

    `limit` is the ratio that must hold: at most, or at least where `more_is_better`; None where none is demanded, and
    the benchmark says why.
    """

    name: str
    unit: str
    ours: Sequence[float]
    hand: Sequence[float]
    limit: float | None
    more_is_better: bool = False

    @property
    def value(self) -> float:
        return statistics.median(self.ours)

    @property
    def baseline(self) -> float:
        return statistics.median(self.hand)

    @property
    def ratio(self) -> float:
        return self.value / self.baseline

    @property
    def pair_ratios(self) -> list[float]:
        """The ratio of each pair: its spread says how far `ratio` can be trusted."""
        return sorted(ours / hand for ours, hand in zip(self.ours, self.hand, strict=True))

    @property
    def spread(self) -> tuple[float, float]:
        """Where the ratio lies: here between the least and the greatest of the pairs."""
        return self.pair_ratios[0], self.pair_ratios[-1]

    @property
    def held(self) -> bool:
        if self.limit is None:
            return True
        return self.ratio >= self.limit if self.more_is_better else self.ratio <= self.limit

    def as_json(self) -> dict[str, Any]:
        """Return the entry of results.json."""
        return {
            "value": round(self.value, 4),
            "unit": self.unit,
            "baseline": round(self.baseline, 4),
            "ratio": round(self.ratio, 4),
            "n": len(self.ours),
            "limit": self.limit,
            "met": None if self.limit is None else self.held,
        }


@dataclass(frozen=True)
class Figure:
    """Measurements that nothing is compared with: the worst of them may be `limit` at most, in their own unit."""

    name: str
    unit: str
    values: Sequence[float]
    limit: float

    @property
    def value(self) -> float:
        return statistics.median(self.values)

    @property
    def held(self) -> bool:
        return max(self.values) <= self.limit

    def as_json(self) -> dict[str, Any]:
        """Return the entry of results.json."""
        return {
            "value": round(self.value, 4),
            "unit": self.unit,
            "worst": round(max(self.values), 4),
            "n": len(self.values),
            "limit": self.limit,
            "met": self.held,
        }


def paired(
    n: int, ours: Callable[[int], float], hand: Callable[[int], float], warm_up: int = 1
) -> tuple[list[float], list[float]]:
    """Measure both sides `n` times, by turns, the one that goes first changing each time.

    Args:
        n: how many pairs.
        ours: does the work with UGRO and returns the measurement; gets the number of the repetition.
        hand: does the same work by hand.
        warm_up: pairs that are done before and not counted: they open connections and fill caches.
    """
    results: dict[Callable[[int], float], list[float]] = {ours: [], hand: []}
    for number in range(-warm_up, n):
        for side in (ours, hand) if number % 2 == 0 else (hand, ours):
            measured = side(number + warm_up)
            if number >= 0:
                results[side].append(measured)
    return results[ours], results[hand]
