# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The charts of an experiment: nothing lost, named as people read it, made once for all who look."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import json

import pytest

from tests.unit.api_server import Serve, start  # noqa: F401 - a fixture
from tests.unit.web_jobs import HTML, Job, get, page, values
from ugro_py.web import kept


def test_charts_keep_extremes_and_have_null_for_what_is_no_number(start: Serve) -> None:
    served = start()
    job = Job(served)
    attempt = job.start()
    for step in range(1, 3001):
        loss = 100.0 if step == 1234 else float("nan") if step % 1000 == 0 else 2.0
        job_line = {"t": 1_700_000_000 + step, "kind": "metrics", "rank": 0, "step": step, "training_loss": loss,
                    HTML: 1.5, "nan_only": float("nan")}  # fmt: skip
        path = job.paths.node_events(attempt, "gpu-master")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as stream:
            stream.write(json.dumps({**job_line, "training_loss": None, "nonfinite": ["training_loss"]}
                                    if loss != loss else job_line).replace("NaN", "null") + "\n")  # fmt: skip
    job.paths.metrics.unlink(missing_ok=True)
    found = values(served, "/experiments/first/charts?points=200")
    charts = {chart["column"]: chart for chart in found["charts"]}
    loss_line = charts["training_loss"]["lines"][0]
    assert len(loss_line["x"]) <= 200
    assert max(value for value in loss_line["max"] if value is not None) == 100.0
    assert charts[HTML]["title"] == HTML and charts[HTML]["section"] == ""
    assert "nan_only" not in charts
    page(served, "/experiments/first")
    for query in ("by=time", "ranks=each", "smooth=0.9", "by=time&ranks=each&smooth=0.99&points=5000"):
        assert values(served, f"/experiments/first/charts?{query}")["charts"]
    for query in ("by=x", "ranks=0", "smooth=1", "smooth=nan", "points=0", "points=1e9"):
        assert get(served, f"/experiments/first/charts?{query}")[0] == 400, query


def test_charts_have_names_that_people_read(start: Serve) -> None:
    served = start()
    job = Job(served)
    attempt = job.start()
    for step in range(1, 4):
        job.step(attempt, step, training_loss=1.0, throughput_tokens_sec=7.0, step_time_s=0.5, data_time_s=0.1,
                 wait_time_s=0.15, cpu_time_s=0.2, epoch=1, gradient_bytes=8, mine=2.0)  # fmt: skip
    charts = values(served, "/experiments/first/charts")["charts"]
    assert [(chart["title"], chart["section"]) for chart in charts] == [
        ("Training loss", ""), ("Throughput of a rank", ""), ("Whole step", "times"), ("Computing", "times"),
        ("Waiting for data", "times"), ("Waiting for other ranks and the network", "times"),
        ("Processor time of the rank", "times"), ("mine", ""),
    ]  # fmt: skip
    assert charts[3]["lines"][0]["y"] == [0.25, 0.25, 0.25] and charts[3]["unit"] == "s"
    each = values(served, "/experiments/first/charts?ranks=each")["charts"][3]["lines"]
    assert [line["name"] for line in each] == ["rank 0", "rank 1"]
    with job.paths.node_events(attempt, "gpu1").open("a") as stream:
        for second in range(4):
            why = [[], ["hw_slowdown", "sw_power_cap"] if second > 1 else []]
            gpus = [{"uuid": f"GPU-{at}", "index": at, "clock_sm_mhz": 2000, "throttle": why[at]} for at in (0, 1)]
            event = {"t": 1_700_000_000 + second, "kind": "sample", "cpu_percent": 5, "gpus": gpus}
            stream.write(json.dumps(event) + "\n")
    samples = {chart["title"]: chart for chart in values(served, "/experiments/first/samples")["charts"]}
    (held,) = samples["GPU held back (throttling), of the time"]["lines"]
    assert (held["name"], held["y"]) == ("gpu1 1 (hw slowdown, sw power cap)", [0, 0, 100, 100])
    clocks = samples["GPU clock"]["lines"]
    assert held["colour"] == clocks[1]["colour"] != clocks[0]["colour"]  # a GPU has one colour in all charts


def test_what_is_too_much_for_a_page_is_told_and_drawn_when_chosen(start: Serve) -> None:
    served = start()
    job = Job(served)
    attempt = job.start()
    own = [f"eval_{number}" for number in range(1, 31)]  # in this order, not as texts are sorted
    for step in (1, 2):
        told = {name: float(step) for name in reversed(own)} | {"a" * 60: None, "eval_007": None, "²": 1.0}
        job.tell(attempt, 0, step, training_loss=1.0, nonfinite=["a" * 60], **told)
    found = values(served, "/experiments/first/charts")
    drawn = [chart["column"] for chart in found["charts"]]
    assert drawn == ["training_loss", *own[:23]], "what nobody has a number of takes no place"
    assert found["left_out"] == [*own[23:], "²"]
    more = values(served, "/experiments/first/charts?more=eval_29&more=eval_25&more=eval_1&more=nope")
    assert [chart["column"] for chart in more["charts"]] == [*drawn, "eval_25", "eval_29"]
    assert more["left_out"] == ["eval_24", "eval_26", "eval_27", "eval_28", "eval_30", "²"]
    assert get(served, "/experiments/first/charts?" + "&".join(["more=x"] * 257))[0] == 400


def test_charts_are_made_once_until_there_is_more(start: Serve) -> None:
    served = start()
    job = Job(served)
    attempt = job.start()
    job.step(attempt, 1, training_loss=3.0)
    _, first, headers = get(served, "/experiments/first/charts")
    tag = headers["etag"]
    status, again, _ = get(served, "/experiments/first/charts", **{"If-None-Match": tag})
    assert (status, again) == (304, "")
    job.step(attempt, 2, training_loss=2.0)
    status, more, headers = get(served, "/experiments/first/charts", **{"If-None-Match": tag})
    assert status == 200
    assert headers["etag"] != tag
    assert len(more) > len(first)

    made: list[int] = []
    answers = kept.Kept()
    for _ in range(3):
        answers.get("first", "x", lambda: made.append(1))
    assert len(made) == 1
    job.step(attempt, 3, training_loss=1.0)
    assert answers.last("first", "x") == b"null"
    assert len(made) == 1
    answers.get("first", "x", lambda: made.append(1))
    assert len(made) == 2


def test_what_was_asked_for_once_leaves_nothing_behind(start: Serve) -> None:
    start()
    answers = kept.Kept()

    def cannot() -> object:
        raise ValueError

    for number in range(200):  # more than is kept, and as many that cannot be made
        answers.get("first", number, lambda: number)  # noqa: B023 - it is called at once
        with pytest.raises(ValueError):
            answers.get("first", f"wrong {number}", cannot)
    assert not answers._making and len(answers._answers) == kept._KEPT
