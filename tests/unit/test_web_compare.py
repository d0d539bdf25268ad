# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The dashboard's page that lays experiments over each other."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Iterator

import pytest

from tests.unit.api_server import Serve, Served, start  # noqa: F401 - a fixture
from tests.unit.web_jobs import HTML, Job, connected, get, page, values, words
from ugro_py.web import chart_sets
from ugro_py.web.pages import compare


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


def messages(lines: Iterator[bytes]) -> Iterator[dict[str, str]]:
    """The parts that a stream sends, for a minute at the most."""
    end = time.monotonic() + 60
    for line in lines:
        if line.startswith(b"data: "):
            yield json.loads(line.removeprefix(b"data: "))["parts"]
        assert time.monotonic() < end, "nothing more comes"


def test_figures_and_the_mark_of_the_curves_follow_a_run(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "_FIGURES_S", 0.0)
    served.app.state.live.round_s = 0.1
    job = Job(served, "grows", "ob")
    attempt = job.start()
    job.step(attempt, 1, training_loss=4.5)
    shown = page(served, "/compare?job=one&job=grows&loss=4")
    (address,) = re.findall(r'data-live="([^"]*)"', shown)
    with connected(served) as connection:
        connection.request("GET", html.unescape(address))
        stream = messages(iter(connection.getresponse().readline, b""))
        first = next(stream)
        assert set(first) == {"compare-mark", "compare-figures", "compare-differences"}
        assert all(part.strip() in shown for name, part in first.items() if name != "compare-figures")  # it has a time
        assert "time to a loss of 4" in first["compare-figures"]
        job.step(attempt, 7, training_loss=3.125, my_own=1.0)
        marks = set()
        for parts in stream:
            marks |= {parts["compare-mark"]} if "compare-mark" in parts else set()
            assert "compare-differences" not in parts  # nothing of it changed
            if "3.125" in parts.get("compare-figures", "") and marks:
                break
        assert any("my_own" in mark for mark in marks) or "my_own" in next(
            parts["compare-mark"] for parts in stream if "my_own" in parts.get("compare-mark", "")
        )
        job.end()
        assert any("completed</td>" in parts.get("compare-figures", "").split("status")[-1] for parts in stream)


def test_a_run_that_writes_no_more_is_not_read_again(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(served, "grows", "ob")
    attempt = job.start()
    made = []
    real = chart_sets.one_chart
    monkeypatch.setattr(chart_sets, "one_chart", lambda name, *rest: made.append(name) or real(name, *rest))
    for step in (1, 2, 3):
        job.step(attempt, step, training_loss=4.0 - step)
        lines = values(served, "/compare/chart?job=one&job=grows")["lines"]
        assert [len(line["x"]) for line in lines] == [10, step]
    assert made == ["one", "grows", "grows", "grows"]


def test_a_column_that_none_has_is_called_the_same_everywhere(served: Served) -> None:
    shown = page(served, "/compare?job=waiting")
    assert '<option value="training_loss" selected>Training loss</option>' in shown
    assert "None of these runs has reported Training loss." in words(shown)
