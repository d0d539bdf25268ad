# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The dashboard's page that lays experiments over each other."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import json
import re

import pytest

from tests.unit.api_server import Serve, Served, start  # noqa: F401 - a fixture
from tests.unit.web_jobs import HTML, Job, get, page, values, words


@pytest.fixture
def served(start: Serve) -> Served:
    made = start()
    for name, rate, torch in (("one", 0.2, "2.6.0"), ("two", 0.4, "2.5.1")):
        job = Job(made, name, request={"model": "tiny-llama", "dataset": "wiki"})
        attempt = job.start()
        for step in range(1, 11):
            second = step * (1 if name == "one" else 2)
            more = {HTML: 2.0} if name == "two" else {}
            at = f"2026-01-20T12:00:{second:02d}Z"
            job.step(attempt, step, training_loss=5.0 - rate * step, timestamp=at, **more)
        job.paths.config.write_text(json.dumps({
            "model": "tiny-llama", "seed": 42, "request": {"args": ["--lr", str(rate)]},
            "nodes": [{"name": "gpu1", "driver": "550", "packages": {"packages": {"torch": torch, HTML: "1"}}}],
        }))  # fmt: skip
        job.end()
    made.agent.store.create_job("waiting", "ob", {"model": "tiny-llama"})
    return made


def test_two_runs_over_each_other(served: Served) -> None:
    shown = page(served, "/compare?job=one&job=two")
    text = words(shown)
    assert shown.count("<polyline") == 2
    assert re.search(r"final loss.* 3 1 \(best\)", text)
    assert re.search(r" time \d[.\d]*s (\(best\) )?\d[.\d]*s ", text), "either may be the shorter"
    assert re.search(r"--lr \(differs\) 0.2 0.4", text)
    assert re.search(r"torch \(differs\) 2.6.0 2.5.1", text)
    assert re.search(r"seed 42 42", text)  # what is the same is there too, to be shown
    assert HTML in text
    one = page(served, "/compare?job=one&loss=4.05")
    assert "4.05" in one
    assert "/compare?job=one" in shown and "/compare?job=two" in shown  # to leave either out


def test_lines_by_step_and_from_the_start_on(served: Served) -> None:
    found = values(served, "/compare/chart?job=one&job=two&job=waiting&job=none")
    assert [line["name"] for line in found["lines"]] == ["one", "two"]
    assert found["lines"][0]["x"] == list(range(1, 11))
    found = values(served, "/compare/chart?job=one&job=two&by=time")
    assert found["by"] == "since"
    assert [line["x"] for line in found["lines"]] == [list(range(10)), list(range(0, 20, 2))]
    smooth = values(served, "/compare/chart?job=one&smooth=0.9")["lines"][0]["y"]
    assert smooth[-1] > 3.0
    (line,) = values(served, "/compare/chart?job=one&job=two&column=" + "%3Cscript%3Ealert(1)%3C%2Fscript%3E%3Cimg"
                     "%20src%3Dx%20onerror%3Dalert(2)%3E%22'%26")["lines"]  # fmt: skip
    assert line["name"] == "two"
    assert values(served, "/compare/chart?job=one&column=nothing")["lines"] == []
    assert values(served, "/compare/chart")["lines"] == []


def test_nothing_wrong_and_too_much(served: Served) -> None:
    assert "Nothing to compare yet" in page(served, "/compare")
    assert "No such curve" in page(served, "/compare?job=waiting")
    shown = page(served, "/compare?job=one&job=%3Cscript%3E&job=..%2F..&add=two+none&column=%22%3E%3Cb%3E")
    assert shown.count('role="alert"') >= 3
    assert 'name="job" value="two"' in shown
    assert "No such curve" in shown
    many = "&".join(f"job=x{number}" for number in range(150))
    assert get(served, f"/compare?{many}")[0] == 200
    for number in range(40):
        served.agent.store.create_job(f"more-{number}", "ob", {})
    shown = page(served, "/compare?" + "&".join(f"job=more-{number}" for number in range(40)))
    assert "cannot be told apart" in shown
    for query in ("by=x", "smooth=2", "smooth=nan", "column=" + "c" * 999):
        assert get(served, f"/compare?job=one&{query}")[0] == 400, query
    assert "Time to the loss: 'nan' is no number." in words(page(served, "/compare?job=one&loss=nan"))
    page(served, "/compare?job=one&loss=%3Cb%3E&log=on")


def test_the_form_adds_to_what_is_there(served: Served) -> None:
    shown = page(served, "/compare?job=one&add=two")
    assert 'name="job" value="one"' in shown
    assert 'name="job" value="two"' in shown
    assert '<option value="waiting">' in shown
    assert '<option value="two">' not in shown


def test_each_form_keeps_what_another_chose(served: Served) -> None:
    shown = page(served, "/compare?job=one&column=gpu_util&by=time&smooth=0.5&log=on&loss=4")
    for form in ("Add a run", "Time to a loss"):
        (found,) = re.findall(rf'<form [^>]*aria-label="{form}">.*?</form>', shown, re.DOTALL)
        for name, value in (("column", "gpu_util"), ("by", "time"), ("smooth", "0.5"), ("log", "on"), ("loss", "4")):
            assert re.search(rf'name="{name}" value="{value}"', found), (form, name)
