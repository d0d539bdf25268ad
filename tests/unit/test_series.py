# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Columns beside metrics.jsonl: what charts show, whatever the lines hold, and what is written beside them."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.job_folder import JOB, paths  # noqa: F401 - a fixture
from ugro_py import metrics, results, series
from ugro_py.errors import NotFoundError
from ugro_py.paths import JobPaths
from ugro_py.results.lines import Lines
from ugro_py.series.chart import thinned


def line(rank: int, step: int, loss: object, attempt: int = 1, **values: object) -> str:
    told = {"timestamp": f"2026-01-20T12:{step // 60 % 60:02}:{step % 60:02}Z", "job_id": JOB, "attempt": attempt}
    return json.dumps(told | {"rank": rank, "step": step, "training_loss": loss, **values}) + "\n"


def chart(paths: JobPaths, column: str = "training_loss", **how: object) -> dict:
    return json.loads(json.dumps(series.open_job(JOB).chart(column, **how).to_json(), allow_nan=False))


def test_the_mean_of_the_ranks_and_each_rank(paths: JobPaths) -> None:
    text = "".join(line(rank, step, 10.0 - step + rank) for step in (1, 2, 3) for rank in (1, 0))
    paths.metrics.write_text(text)
    found = chart(paths)
    assert found["lines"] == [{"name": "mean", "x": [1, 2, 3], "y": [9.5, 8.5, 7.5], "min": [9.5, 8.5, 7.5],
                               "max": [9.5, 8.5, 7.5]}]  # fmt: skip
    assert (found["points"], found["unit"], found["attempts"]) == (6, "", [{"attempt": 1, "x": 1}])
    each = chart(paths, ranks="each", by="time")["lines"]
    assert [one["name"] for one in each] == ["rank 0", "rank 1"]
    assert each[1]["y"] == [10.0, 9.0, 8.0]
    assert each[0]["x"][1] - each[0]["x"][0] == 1
    assert [one["name"] for one in chart(paths, ranks=[1, 7])["lines"]] == ["rank 1"]
    assert chart(paths, "gradient_norm")["lines"] == []


def test_the_newest_attempt_counts_where_attempts_overlap(paths: JobPaths) -> None:
    old = [line(rank, step, 1.0) for step in range(1, 5) for rank in (0, 1)]
    new = [line(0, step, 5.0, attempt=2) for step in range(3, 7)]  # with one rank less
    paths.metrics.write_text("".join(new + old + [line(0, 6, 7.0, attempt=2)]))
    found = chart(paths)
    assert found["lines"][0]["x"] == [1, 2, 3, 4, 5, 6]
    assert found["lines"][0]["y"] == [1, 1, 5, 5, 5, 7], "of a step that is told twice, the last word"
    assert found["attempts"] == [{"attempt": 1, "x": 1}, {"attempt": 2, "x": 3}]


def test_what_an_older_attempt_told_beyond_the_newest_is_no_end_of_the_run(paths: JobPaths) -> None:
    old = [line(0, step, 4.0 - step / 50) for step in range(1, 101)]
    paths.metrics.write_text("".join([*old, line(0, 31, 9.0, attempt=2)]))
    found = series.open_job(JOB)
    assert found.last_step == 31
    lines = Lines(found)
    assert [lines.curve()[index].loss for index in (0, 29, 30)] == [3.98, 3.4, 9.0] and len(lines.curve()) == 31
    assert lines.nonfinite_since() is None
    lost = [line(0, step, None, attempt=3, nonfinite=["training_loss"]) for step in range(30, 51)]
    paths.metrics.write_text("".join(old + [line(0, step, 5.0, attempt=3) for step in range(1, 30)] + lost))
    found = series.open_job(JOB)
    lines = Lines(found)
    assert (found.last_step, lines.nonfinite_since(), lines.nonfinite_steps()) == (50, 30, 21)
    assert [(point.step, point.loss) for point in lines.curve()][-1:] == [(29, 5.0)] and len(lines.curve()) == 29
    assert len(found.table()) == 150, "the lines themselves are all there"


def test_an_attempt_that_tells_other_steps_is_not_mixed_with_the_one_before(paths: JobPaths) -> None:
    """It tells its loss every so many seconds: the first attempt at steps 1, 4, 7, …, the second at 20, 22, 24, …"""
    old = [line(rank, step, 1.0, lr=0.1) for step in range(1, 40, 3) for rank in (0, 1)]
    new = [line(0, step, 5.0, attempt=2) for step in range(20, 31, 2)]
    late = [line(1, step, 7.0, attempt=2) for step in range(20, 25, 2)]  # this rank's lines come after the other's
    bare = line(0, 19, None, attempt=3)  # it has begun, and told no loss
    paths.metrics.write_text("".join([*old, *new, *late, bare]))
    found = series.open_job(JOB)
    curve = [(point.step, point.loss) for point in Lines(found).curve()]
    assert curve == [*((step, 1.0) for step in range(1, 20, 3)), (20, 6), (22, 6), (24, 6), (26, 5), (28, 5), (30, 5)]
    assert found.chart("lr").lines[0].x[-1] == 37, "no other attempt tells it"
    assert (found.last_step, found.newest_ranks) == (19, [0])


def test_a_mean_with_a_number_that_is_none_is_a_gap(paths: JobPaths) -> None:
    texts = [line(0, 1, 1.0), line(1, 1, 2.0), line(0, 2, None, nonfinite=["training_loss"]), line(1, 2, 3.0)]
    texts += [line(0, 3, math.nan), line(1, 3, math.inf), line(0, 4, -math.inf), line(0, 5, None), line(0, 6, 4.0)]
    paths.metrics.write_text("".join(texts))
    found = chart(paths)["lines"][0]
    assert (found["x"], found["y"]) == ([1, 2, 3, 4, 6], [1.5, None, None, None, 4.0])
    table = series.open_job(JOB).table(["training_loss"])
    assert table["training_loss"].null_count == 1, "only what was not told is null"
    assert table.column_names == ["attempt", "rank", "step", "time", "training_loss"]


HOSTILE = [
    b"\n", b"[3]\n", b"null\n", b'{"step": 2, "ra', b"\xff\xfe\x00\n", b'{"a": 1}{"b": 2}\n', b"   \r\n",
    b'"' * 99 + b"\n",
    b'{"rank": 0, "step": 3, "training_loss": 1e999}\n', b'{"rank": true, "step": 1.5, "training_loss": "x"}\n',
    b'{"rank": 0, "step": 99999999999999999999, "training_loss": 1}\n', b'{"rank": 0, "rank": 1, "step": 1}\n',
    b'{"rank": 0, "step": 4, "training_loss": ' + b"9" * 400 + b"}\n",
    b'{"rank":0,"step":5,"gpu_util":[1],"x":{"y":[]}}\n',
    b'{"rank": 0, "step": 6, "note": "' + b"z" * 10_000_000 + b'"}\n', b"[" * 100_000 + b"\n",
    b'{"timestamp": "never"}\n',
    b'{"rank": 0, "step": 7, "nonfinite": "all", "\xed\xa0\x80": 1}\n',
    b'{"nonfinite": [null, 3, "\\ud800"], "rank": 0}\n',
    b'{"rank": 0, "step": 8, "other": 1, "time": 2, "node": 3, "nonfinite": ["rank", "x\\u0000y", "my_loss"]}\r\n',
]  # fmt: skip


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda value: ascii(value[:40]))
def test_a_hostile_line_costs_no_other_line_anything(paths: JobPaths, hostile: bytes) -> None:
    good = [line(0, step, float(step)).encode() for step in range(100, 103)]
    paths.metrics.write_bytes(good[0] + hostile + (b"" if hostile.endswith(b"\n") else b"\n") + b"".join(good[1:]))
    opened = series.open_job(JOB)
    kept = opened.table(["training_loss"]).to_pylist()
    assert [row["training_loss"] for row in kept if row["step"] >= 100] == [100.0, 101.0, 102.0]
    found = opened.chart("training_loss").to_json()
    assert found["lines"][0]["y"][-3:] == [100.0, 101.0, 102.0]
    json.dumps(found, allow_nan=False)
    assert opened.broken + opened.rows - 3 == (0 if not hostile.strip() else 1)
    for column in opened.columns:
        opened.chart(column).to_json()


def test_what_is_no_number_is_kept_as_text(paths: JobPaths) -> None:
    paths.metrics.write_text(line(0, 1, "high") + line(0, 2, 2.0, note="best yet", big=10**400, eval_loss=3))
    opened = series.open_job(JOB)
    others = [json.loads(text) for text in opened.raw(["other"])["other"].to_pylist()]
    assert others == [{"training_loss": "high"}, {"note": "best yet", "big": 10**400}]
    assert opened.columns[-1] == "eval_loss"
    assert opened.chart("eval_loss").to_json()["lines"][0]["y"] == [3.0]


def test_the_ranks_of_the_newest_attempt(paths: JobPaths) -> None:
    paths.metrics.write_text(line(5, 1, 1.0) + line(3, 1, 1.0, attempt=2) + line(0, 1, 1.0, attempt=2))
    assert series.open_job(JOB).newest_ranks == [0, 3]
    with paths.metrics.open("a") as stream:
        stream.write(line(2**31 - 1, 1, 1.0, attempt=2) + line(3, 2, 1.0, attempt=2))
    assert series.open_job(JOB).newest_ranks == [0, 3, 2**31 - 1]
    paths.metrics.write_text('{"step": 1}\n')
    assert series.open_job(JOB).newest_ranks == []


def test_a_table_of_no_number_has_the_keys(paths: JobPaths) -> None:
    paths.metrics.write_text("".join(line(rank, step, 1.0) for step in (1, 2) for rank in (0, 1)) + '{"rank": 0}\n')
    opened = series.open_job(JOB)
    table = opened.table([])
    assert table.column_names == ["attempt", "rank", "step", "time"]
    assert table["rank"].to_pylist() == [0, 1, 0, 1], "a line without a step belongs to none"
    assert opened.table([], rank=1)["step"].to_pylist() == [1, 2]
    assert opened.table(["training_loss"], rank=1).num_rows == 2
    assert (opened.raw([]).num_rows, opened.raw([]).column_names) == (5, []), "lines are there without columns too"
    paths.metrics.write_text(line(0, 1, 1.0))
    assert series.open_job(JOB).table([]).num_rows == 1


def test_names_without_end_are_not_columns_without_end(paths: JobPaths) -> None:
    paths.metrics.write_text("".join(line(0, step, 1.0, **{f"loss_{step}": step}) for step in range(2000)))
    opened = series.open_job(JOB)
    assert len(opened.columns) <= 256
    text = opened.raw(["other"])["other"].to_pylist()[-1]
    assert json.loads(text) == {"loss_1999": 1999}
    assert opened.chart("training_loss").points == 2000


def test_unknown_columns_and_jobs_are_said_so(paths: JobPaths) -> None:
    paths.metrics.write_text(line(0, 1, 1.0))
    with pytest.raises(NotFoundError, match=r"metric 'nope'.*there are gpu_util, .*training_loss"):
        series.open_job(JOB).chart("nope")
    with pytest.raises(NotFoundError, match="job_2"):
        series.open_job("job_2")


def test_an_old_file_of_the_seed_without_attempts(paths: JobPaths) -> None:
    old = {"timestamp": "2026-01-20T12:05:30Z", "job_id": "job_001", "rank": 0, "step": 17, "training_loss": 4.231}
    paths.metrics.write_text(json.dumps(old))  # and no newline yet
    assert series.open_job(JOB).rows == 0
    paths.metrics.write_text(json.dumps(old) + "\n")
    found = chart(paths, by="time")
    assert found["lines"][0]["x"] == [1768910730.0]
    assert found["attempts"] == [{"attempt": 1, "x": 1768910730}]


values = st.one_of(st.none(), st.floats(-1e6, 1e6), st.just(math.nan), st.just(math.inf))
rows = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3), st.integers(0, 9), values), max_size=60)


@settings(max_examples=150, deadline=None)
@given(rows)
def test_a_chart_is_what_a_plain_loop_says(
    tmp_path_factory: pytest.TempPathFactory, told: list[tuple[int, int, int, float | None]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UGRO_DATA", str(tmp_path_factory.mktemp("data")))
        paths = JobPaths(JOB)
        paths.root.mkdir(parents=True)
        paths.metrics.write_text("".join(line(rank, step, loss, attempt) for attempt, rank, step, loss in told))
        expected: dict[int, dict[int, float]] = {}
        begins: dict[int, int] = {}
        for attempt, _, step, loss in told:
            if loss is not None:
                begins[attempt] = min(step, begins.get(attempt, step))
        for attempt, rank, step, loss in told:
            if loss is not None and not any(later > attempt and step >= first for later, first in begins.items()):
                expected.setdefault(step, {})[rank] = loss
        found = chart(paths)["lines"]
        means = {step: sum(by_rank.values()) / len(by_rank) for step, by_rank in sorted(expected.items())}
        if not means:
            assert found == []
            return
        assert found[0]["x"] == list(means)
        for mean, drawn in zip(means.values(), found[0]["y"], strict=True):
            assert drawn is None if not math.isfinite(mean) else drawn == pytest.approx(mean)


@given(st.lists(st.floats(-1e9, 1e9) | st.just(math.nan), min_size=1, max_size=400), st.integers(2, 50))
def test_thinning_keeps_minima_maxima_and_both_ends(values: list[float], points: int) -> None:
    y = np.array(values)
    line = thinned("mean", np.arange(len(y)), y, points)
    assert len(line.x) == min(points, len(y)) == len(line.y) == len(line.low) == len(line.high)
    assert (line.x[0], line.x[-1]) == (0, len(y) - 1)
    if np.isfinite(y).any():
        assert np.nanmin(line.low) == np.nanmin(y)
        assert np.nanmax(line.high) == np.nanmax(y)
        told = np.isfinite(line.y)
        assert (line.low[told] <= line.y[told] + 1e-6).all()
        assert (line.y[told] <= line.high[told] + 1e-6).all()


def test_steps_of_one_second_are_one_point_along_time(paths: JobPaths) -> None:
    texts = [line(rank, step, float(step), timestamp=f"2026-01-20T12:00:{step // 4:02}Z") for step in range(40)
             for rank in (0, 1)]  # fmt: skip
    paths.metrics.write_text("".join(texts))
    (mean,) = chart(paths, by="time")["lines"]
    start = mean["x"][0]
    assert [x - start for x in mean["x"]] == list(range(10))
    assert mean["y"][:2] == [1.5, 5.5]
    assert (mean["min"][1], mean["max"][1]) == (4.0, 7.0)
    few = chart(paths, by="time", points=3)["lines"][0]
    assert (few["x"][0], few["x"][-1], len(few["x"])) == (start, start + 9, 3)
    assert (min(few["min"]), max(few["max"])) == (0.0, 39.0)
    assert [one["x"] for one in chart(paths, by="time", ranks="each")["lines"]] == [mean["x"], mean["x"]]


@pytest.mark.filterwarnings("error")
def test_the_mean_of_numbers_whose_sum_is_no_number(paths: JobPaths) -> None:
    most = sys.float_info.max
    told = {1: [most] * 12, 2: [most, most, -most], 3: [*[most] * 12, *[-most] * 12], 4: [1.0, math.nan], 5: [1.0, 2.0]}
    texts = [line(rank, step, loss) for step, losses in told.items() for rank, loss in enumerate(losses)]
    paths.metrics.write_text("".join(texts))
    means = series.open_job(JOB).told("training_loss").mean()[2].tolist()
    assert means == pytest.approx([most, most / 3, 0, math.nan, 1.5], rel=1e-9, abs=most / 1e9, nan_ok=True)
    assert means[4] == 1.5
    assert thinned("mean", np.arange(8), np.full(8, most), 2).y.tolist() == pytest.approx([most, most])
    assert results.summary(JOB).nonfinite_steps == 1
    paths.metrics.write_text("".join(line(0, step, most) for step in range(12)) + line(0, 12, math.nan))
    assert Lines(series.open_job(JOB)).mean("training_loss") == pytest.approx(most)


def test_a_smoothed_line_is_the_one_of_tensorboard() -> None:
    y = np.array([1.0, 0.0, np.nan, 1.0])
    smooth = thinned("mean", np.arange(4), y, 10, 0.5)
    assert smooth.y[[0, 1, 3]] == pytest.approx([1.0, 1 / 3, 5 / 7])
    assert math.isnan(smooth.y[2])
    assert smooth.high[1] == 0.0


def test_no_folder_is_made_for_a_small_job(paths: JobPaths) -> None:
    paths.metrics.write_text(line(0, 1, 1.0))
    series.open_job(JOB).chart("training_loss")
    assert not paths.series(paths.metrics).parent.exists()
    assert list(metrics.read(paths))
