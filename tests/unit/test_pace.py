# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Where a job is and when it will be done, from lines that a script may have written as it liked."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ugro_py import pace
from ugro_py.paths import JobPaths


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobPaths:
    monkeypatch.setenv("UGRO_DATA", str(tmp_path))
    found = JobPaths("job")
    found.root.mkdir(parents=True)
    return found


def line(at: float, step: Any, rank: int = 0, **values: Any) -> str:
    timestamp = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return json.dumps({"timestamp": timestamp, "attempt": 1, "rank": rank, "step": step, **values}) + "\n"


def test_nothing_yet(paths: JobPaths) -> None:
    found = pace.progress(paths, 10.0)
    assert found.pop("ranks") == {} and found.pop("loss_nonfinite") is False and set(found.values()) == {None}


def test_the_pace_is_that_of_the_last_steps(paths: JobPaths) -> None:
    slow = [line(100 * step, step, total_steps=1000) for step in range(5)]
    fast = [line(400 + step / 10, step, total_steps=1000) for step in range(5, 905)]
    paths.metrics.write_text("".join(slow + fast) + "x" * 1000)
    left = pace.progress(paths, 490.0)["eta_s"]
    assert left == pytest.approx(9.6, rel=0.1)  # 96 steps, ten a second; the first ones are long out of sight
    assert pace.progress(paths, None)["eta_s"] is None  # it does not run


def test_of_a_job_that_only_just_began_all_its_time_counts(paths: JobPaths) -> None:
    paths.metrics.write_text("".join(line(5, step, total_steps=100) for step in range(1, 11)))
    assert pace.progress(paths, 20.0)["eta_s"] == pytest.approx(180.0)
    assert pace.progress(paths, 0.0)["eta_s"] is None
    paths.metrics.write_text(line(5, 5, total_steps=100) + line(6, 10, total_steps=100))
    assert pace.progress(paths, 20.0)["eta_s"] == pytest.approx(180.0), "it tells every fifth step"
    paths.metrics.write_text(line(5, 5, total_steps=100))
    assert pace.progress(paths, 20.0)["eta_s"] is None, "nobody knows where it began"


@pytest.mark.parametrize(("seconds", "attempt"), [(1, 1), (4, 1), (60, 1), (60, 2)])
def test_steps_that_were_done_before_the_run_are_no_pace(paths: JobPaths, seconds: int, attempt: int) -> None:
    """It goes on from a checkpoint at 200 steps a second, so quickly that the tail of its metrics is one second."""
    old = [line(-1000 + step, step, total_steps=1_100_000) for step in range(20)] if attempt == 2 else []
    steps = range(1, 200 * seconds + 1)
    lines = [line(step // 200, 10**6 + step, total_steps=1_100_000, attempt=attempt, x="x" * 150) for step in steps]
    paths.metrics.write_text("".join(old + lines))
    left = pace.progress(paths, float(seconds) + 1000 * (attempt - 1))["eta_s"]
    assert left == pytest.approx(500 - seconds, rel=0.4 if seconds < 9 else 0.05)


def test_lines_so_long_that_the_rank_is_not_in_every_piece(paths: JobPaths) -> None:
    """Of 30 ranks with lines of 3 KB, a piece of 64 KB has 20."""
    for last in range(19, 30):  # as far as the last step was written
        ends = [(step, rank) for step in range(40) for rank in range(30) if step < 39 or rank <= last]
        wide = [line(step // 2, 1000 + step, rank, attempt=2, total_steps=2000, x="x" * 2900) for step, rank in ends]
        paths.metrics.write_text(line(-500, 900, attempt=1) + "".join(wide))
        assert pace.progress(paths, 520.0, 30)["eta_s"] == pytest.approx(480, rel=0.2), last


def test_steps_that_come_one_by_one() -> None:
    found = pace.Pace()
    assert found.steps_per_second() is None
    for tenth in range(10_000):  # ten a second, then for as long twice as many
        found.take(tenth / 10, tenth if tenth < 5000 else 2 * tenth - 5000)
        if tenth < 10:
            assert found.steps_per_second() is None, "too close together"
        elif tenth < 5000:
            assert found.steps_per_second() == pytest.approx(10)
    assert found.steps_per_second() == pytest.approx(20)
    for step in range(5):
        found.take(2000 + step, step)
    assert found.steps_per_second() == pytest.approx(1), "it began anew"


def test_a_retry_that_has_just_begun_has_no_pace_yet(paths: JobPaths) -> None:
    first = [line(step, step, total_steps=100) for step in range(50)]
    again = [line(1000, 40 + step, total_steps=100, attempt=2) for step in range(5)]
    paths.metrics.write_text("".join(first + again))
    assert pace.progress(paths, 1001.0)["eta_s"] is None, "the time of the first attempt and the wait are none of it"


def test_every_rank_counts_however_many_there_are(paths: JobPaths) -> None:
    told = {"throughput_tokens_sec": 2.0, "total_steps": 100, "other": "x" * 300}
    lines = [line(10 * step, step, rank, **told) for step in (1, 2) for rank in range(300)]
    paths.metrics.write_text("".join(lines))
    found = pace.progress(paths, 20.0, 300)
    assert (len(found["ranks"]), found["throughput_tokens_sec"]) == (300, 600.0)
    assert found["eta_s"] == pytest.approx(980.0)


def test_the_loss_is_the_mean_of_the_ranks_that_tell_a_number(paths: JobPaths) -> None:
    told = [(0, 1.0), (1, 2.0), (2, math.nan), (3, "none"), (4, 6.0)]
    lines = [line(step, step, rank, training_loss=loss) for step in (1, 2) for rank, loss in told]
    paths.metrics.write_text("".join(lines))
    assert pace.progress(paths, 5.0)["loss"] == pytest.approx(3.0)
    paths.metrics.write_text(line(1, 1, 0, training_loss=math.nan))
    assert pace.progress(paths, 5.0)["loss"] is None
    paths.metrics.write_text("".join(line(1, 1, rank, training_loss=1.7e308) for rank in range(3)))
    assert pace.progress(paths, 5.0)["loss"] == pytest.approx(1.7e308)


def test_a_loss_that_is_nan_now_is_told_as_that(paths: JobPaths) -> None:
    good = [line(1, 1, rank, training_loss=2.0) for rank in (0, 1)]
    lost = line(2, 2, 1, training_loss=None, nonfinite=["training_loss"])
    paths.metrics.write_text("".join([*good, line(2, 2, 0, training_loss=2.0), lost]))
    found = pace.progress(paths, 5.0)
    assert (found["loss"], found["loss_nonfinite"]) == (None, True)
    back = [line(3, 3, rank, training_loss=1.5, nonfinite="all") for rank in (0, 1)]
    paths.metrics.write_text("".join([*good, lost, *back]))
    found = pace.progress(paths, 5.0)
    assert (found["loss"], found["loss_nonfinite"]) == (1.5, False)


def test_a_retry_counts_from_its_own_start(paths: JobPaths) -> None:
    first = [
        line(step, step, rank, total_steps=100, throughput_tokens_sec=7) for step in range(50) for rank in (0, 1, 2)
    ]
    again = [line(1000 + 2 * step, 40 + step, rank, total_steps=100, attempt=2) for step in range(5) for rank in (1, 2)]
    paths.metrics.write_text("".join(first + again))
    found = pace.progress(paths, 1010.0)
    assert sorted(found["ranks"]) == [1, 2]  # this time with two ranks
    assert (found["step"], found["throughput_tokens_sec"]) == (44, None)
    assert found["eta_s"] == pytest.approx(112.0)


def test_what_changes_is_read_again(paths: JobPaths) -> None:
    paths.metrics.write_text(line(1, 1))
    assert pace.progress(paths, 1.0)["step"] == 1
    assert pace.newest_lines(paths) is pace.newest_lines(paths)  # not read while it stays as it is
    with paths.metrics.open("a") as file:
        file.write(line(2, 2))
    assert pace.progress(paths, 1.0)["step"] == 2


def test_lines_that_say_nothing(paths: JobPaths) -> None:
    hostile = [
        "[" * 100_000,
        "{",
        "null",
        '{"rank": "0"}',
        '{"rank": true}',
        '{"rank": NaN}',
        '{"rank": 1e999}',
        "\x00",
    ]
    paths.metrics.write_text("\n".join(hostile) + "\n" + line(3, 3, timestamp="+999999-01-01") + '{"rank": 0, "st')
    assert pace.progress(paths, 1.0)["step"] == 3


@pytest.mark.parametrize("value", [None, "1", True, [], {}, math.nan, math.inf, -math.inf, 10**400])
def test_no_number(value: object) -> None:
    assert pace.finite(value) is None and pace.whole(value) is None


@pytest.mark.parametrize(
    ("step", "total", "rate", "left"),
    [
        (10, 100, 2.0, 45.0),
        (110, 100, 2.0, 0.0),
        (1, None, 2.0, None),
        ("1", 100, 2.0, None),
        (1, 9, 0.0, None),
        (1, 9, -1, None),
    ],
)
def test_seconds_left(step: Any, total: Any, rate: float, left: float | None) -> None:
    assert pace.seconds_left(step, total, rate) == left


def test_numbers_at_the_end_of_what_a_float_holds_stay_json(paths: JobPaths) -> None:
    told = {"throughput_tokens_sec": 1.5e308, "total_steps": 1.7e308}
    paths.metrics.write_text("".join(line(20 * step, step, rank, **told) for step in (1, 2) for rank in (0, 1)))
    found = pace.progress(paths, 40.0)
    assert (found["throughput_tokens_sec"], found["eta_s"]) == (None, None)
    json.dumps(found, allow_nan=False)
