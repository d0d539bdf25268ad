# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The dashboard's list of experiments: what is shown of them, found, sorted, paged, and never run as a script."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import re

import pytest

from tests.unit.api_server import Serve, Served, start  # noqa: F401 - a fixture
from tests.unit.web_jobs import HTML, Job, page, words

ROW = re.compile(r'<th scope="row"><a href="/experiments/([^"]+)"')


@pytest.fixture
def served(start: Serve) -> Served:
    made = start()
    for number, (name, user, rate) in enumerate((("slow", "ob", 0.5), ("quick", "ada", 2.0), ("bad", "ada", 0.1))):
        job = Job(made, name, user, {"model": f"model-{number}", "dataset": HTML if name == "bad" else "wiki"})
        attempt = job.start()
        for step in range(1, 6):
            job.step(attempt, step, training_loss=5.0 - rate * step / 5, throughput_tokens_sec=100 * rate)
        job.end("failed" if name == "bad" else "completed")
    made.agent.store.create_job("waiting", "ob", {"model": "later"})
    made.agent.store.set_tags("quick", ["best", "lr=1"])
    made.agent.store.set_note("quick", f"{HTML} is what I found\nsecond line")
    return made


def names(text: str) -> list[str]:
    return ROW.findall(text)


def wait_for_figures(served: Served) -> None:
    from ugro_py import experiments

    experiments.ls(served.agent.store, wait_s=None)


def test_all_are_listed_the_newest_first(served: Served) -> None:
    wait_for_figures(served)
    shown = page(served, "/experiments")
    assert names(shown) == ["waiting", "bad", "quick", "slow"]
    text = words(shown)
    assert "1 to 4 of 4" in text
    assert "<script>alert(1)</script>" in text
    assert "second line" not in text
    assert shown.count("<polyline") == 3
    assert 'href="/experiments?tag=lr%3D1"' in shown
    assert 'aria-sort="descending"' in shown


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("status=failed", ["bad"]),
        ("user=ada", ["bad", "quick"]),
        ("tag=best", ["quick"]),
        ("tag=lr%3D1&user=ob", []),
        ("q=wiki", ["quick", "slow"]),
        ("q=found", ["quick"]),
        ("where=loss%3C4", ["quick"]),
        ("where=loss%3C4.8+status!%3Dfailed", ["quick", "slow"]),
        ("sort=job", ["bad", "quick", "slow", "waiting"]),
        ("sort=-throughput&status=completed", ["quick", "slow"]),
        ("page=9", []),
    ],
)
def test_filters_search_and_order(served: Served, query: str, found: list[str]) -> None:
    wait_for_figures(served)
    assert names(page(served, f"/experiments?{query}")) == found


@pytest.mark.parametrize(
    "query", ["where=loss", "sort=password", "where=loss%3Cx", "where=%3Cscript%3E", "sort=%22%3E%3Cb%3E"]
)
def test_what_cannot_be_asked_is_said_on_the_page(served: Served, query: str) -> None:
    shown = page(served, f"/experiments?{query}")
    assert 'role="alert"' in shown and "No experiment" not in shown
    assert names(shown) == []


def test_what_was_asked_is_kept_in_form_and_links(served: Served) -> None:
    shown = page(served, "/experiments?q=%22%3E%3Cscript%3E&user=ob%26x&sort=loss")
    assert "No experiment fits" in shown
    assert 'value="ob&amp;x"' in shown
    assert "&#34;&gt;&lt;script&gt;" in shown
    shown = page(served, "/experiments?user=ob&sort=job")
    assert 'href="/experiments?user=ob&amp;sort=-job"' in shown
    assert 'aria-sort="ascending"' in shown


def test_pages(start: Serve) -> None:
    served = start()
    assert "No experiments yet" in page(served, "/experiments")
    for number in range(120):
        served.agent.store.create_job(f"job-{number:03d}", "ob", {"model": "m"})
    first = page(served, "/experiments?user=ob")
    assert len(names(first)) == 50
    assert "Page 1 of 3" in words(first)
    assert 'rel="next" href="/experiments?user=ob&amp;page=2"' in first
    assert 'rel="prev"' not in first
    last = page(served, "/experiments?user=ob&page=3")
    assert names(last)[-1] == "job-000"
    assert len(names(last)) == 20
    assert 'rel="next"' not in last
