# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks make of measurements: which limits held; where there is none, none is met."""

from __future__ import annotations

import pytest

from benchmarks.measure import Figure, Result
from benchmarks.stopwatch import Blocks


@pytest.mark.parametrize(
    ("limit", "more_is_better", "held"),
    [(2.0, False, True), (1.9, False, False), (1.9, True, True), (2.1, True, False)],
)
def test_a_limit_holds_or_not(limit: float, more_is_better: bool, held: bool) -> None:
    result = Result("one", "s", [1.0, 2.0, 9.0], [1.0, 1.0, 1.0], limit, more_is_better)
    assert (result.ratio, result.held) == (2.0, held)
    assert (result.as_json()["met"], result.as_json()["limit"]) == (held, limit)


def test_without_a_limit_nothing_is_missed_and_nothing_met() -> None:
    result = Result("one", "s", [40.0], [1.0], None)
    assert result.held
    assert (result.as_json()["met"], result.as_json()["limit"], result.as_json()["ratio"]) == (None, None, 40.0)


def test_the_worst_of_a_figure_counts() -> None:
    assert not Figure("one", "s", [1.0, 3.0], 2.0).held
    assert Figure("one", "s", [1.0, 2.0], 2.0).held


def test_of_many_pairs_the_interval_of_the_median_counts() -> None:
    """One pair in ten met something else that the machine did: that moves no median."""
    base = [1.0 + number % 7 for number in range(400)]
    cost = [1.004 + 0.002 * (number % 5 - 2) for number in range(400)]
    busy = [3.0 if number % 10 == 0 else 1.0 for number in range(400)]
    ours = [value * more * much for value, more, much in zip(base, cost, busy, strict=True)]
    found = Blocks("one", "ms", ours, base, 1.01)
    low, high = found.spread
    assert 1.002 <= low <= found.ratio <= high <= 1.006 and found.held
    assert found.ratio == pytest.approx(1.004, abs=0.002)
    assert not Blocks("one", "ms", ours, base, 1.003).held
    assert not Blocks("few", "ms", ours[:3], base[:3], 1.01).held, "three pairs prove nothing"
