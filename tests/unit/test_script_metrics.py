"""Metrics that a script writes itself to UGRO_METRICS_FILE: taken as they are, within bounds, and not counted twice."""

from __future__ import annotations

import json

import pytest
from ansible_collections.ugro.cluster.plugins.module_utils.metric_lines import MetricParser


def test_metrics_of_the_script_itself() -> None:
    line = {
        "timestamp": "2026-01-20T12:05:30Z", "job_id": "job_001", "rank": 7, "step": 17, "gpu_util": 87.5,
        "gpu_mem_used_gb": 9.8, "training_loss": 4.231, "throughput_tokens_sec": 152, "gradient_norm": 2.145,
        "learning_rate": 0.0002, "epoch": 0.5, "total_steps": 40, "validation_loss": 5.0, "note": "x",
    }  # fmt: skip
    metrics = MetricParser(2).feed_metrics(json.dumps(line) + "\n")
    del line["job_id"], line["note"]
    assert metrics == {**line, "rank": 2}


def test_metrics_that_are_not_finite_say_so() -> None:
    metrics = MetricParser(0).feed_metrics(
        '{"step": 1, "training_loss": NaN, "aux": -Infinity, "learning_rate": 1e999}'
    )
    assert metrics is not None
    assert sorted(metrics.pop("nonfinite")) == ["aux", "learning_rate", "training_loss"]
    assert metrics == {"rank": 0, "step": 1, "training_loss": None, "aux": None, "learning_rate": None}


@pytest.mark.parametrize(
    "line",
    [
        "",
        "null",
        "[1]",
        "3",
        '{"step": 1, "training_l',
        '{"step": 3}',
        '{"note": "hi"}',
        '{"step": "x", "training_loss": 1}',
        '{"global_step": [3], "loss": 1, "other": 2}',
        '{"Step": NaN, "loss": 1}',
        "\x00",
        "[" * 100_000,
        '{"a":' * 9999,
    ],
)
def test_broken_metrics_lines_are_nothing(line: str) -> None:
    parser = MetricParser(0)
    assert parser.feed_metrics(line) is None
    assert parser.feed_log("loss=1.5") is not None


def test_a_loss_whose_step_is_no_number_is_not_that_of_the_next_step() -> None:
    for feed in (MetricParser(0).feed_metrics, MetricParser(0).feed_log):
        assert feed('{"step": 4, "training_loss": 2.5}') is not None
        assert feed('{"step": "x", "training_loss": 1.0}') is None
        for line, step in (('{"step": null, "loss": 2.25}', 5), ('{"step": "x", "iter": "6", "loss": 2.0}', 6)):
            metrics = feed(line)
            assert metrics is not None and metrics["step"] == step


@pytest.mark.parametrize("wrong", ["-5", "-1", "2.5", "1e30", "1e15", "-Infinity", "Infinity", "NaN", "1" + "0" * 400])
def test_a_step_that_is_none_does_not_stand_at_a_real_one(wrong: str) -> None:
    for feed in (MetricParser(0).feed_metrics, MetricParser(0).feed_log):
        assert feed('{"step": 8, "loss": 2.0}') is not None
        assert feed(f'{{"step": {wrong}, "loss": 1e308}}') is None
        for line, step in (
            (f'{{"step": {wrong}, "global_step": 9, "loss": 1.5}}', 9),
            ('{"step": 10.0, "loss": 1.5}', 10),
            ('{"step": 10.999999999999998, "loss": 1.5}', 11),
            ('{"loss": 1.5}', 12),
        ):
            metrics = feed(line)
            assert metrics is not None and metrics["step"] == step


def test_a_script_that_counts_anew_goes_on_being_read() -> None:
    feed = MetricParser(0).feed_metrics
    steps = [feed(f'{{"step": {step}, "loss": 2.0}}') for step in (7, 8, -1, 0, 1, 8, 9)]
    assert [line and line["step"] for line in steps] == [7, 8, None, 0, 1, 8, 9]


def test_metrics_are_bounded() -> None:
    metrics = MetricParser(0).feed_metrics(json.dumps({f"k{n}": n for n in range(1000)}))
    assert metrics is not None
    assert len(metrics) < 260
    eighty = {f"eval/{n}": float(n) for n in range(80)}
    assert MetricParser(0).feed_metrics(json.dumps({"step": 3, **eighty})) == {"rank": 0, "step": 3, **eighty}
    assert MetricParser(0).feed_metrics('{"loss": "2.5"}') == {"rank": 0, "step": 1, "training_loss": 2.5}
    assert MetricParser(0).feed_metrics('{"loss": true, "x": 1' + "0" * 400 + "}") is None


def test_a_script_with_metrics_of_its_own_is_not_counted_twice() -> None:
    parser = MetricParser(0)
    assert parser.feed_metrics('{"step": 5, "training_loss": 2.0}') is not None
    assert parser.feed_log("step 5 loss 2.0") is None
