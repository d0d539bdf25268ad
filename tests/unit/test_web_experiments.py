# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The dashboard's list of experiments: what is shown of them, found, sorted, paged, and never run as a script."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import html
import json
import re
import time
from urllib.parse import quote

import pytest

from tests.unit.api_server import Serve, Served, start  # noqa: F401 - a fixture
from tests.unit.web_jobs import HTML, Job, connected, page, words
from ugro_py.experiments import listing

ROW = re.compile(r'<th scope="row"><a href="/experiments/([^"]+)"')
TICKED = re.compile(r'type="checkbox" name="job" value="([^"]+)" checked')
HIDDEN = re.compile(r'type="hidden" name="job" value="([^"]+)"')


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


def test_a_page_beyond_the_last_leads_back(served: Served) -> None:
    shown = page(served, "/experiments?user=ada&page=9")
    assert "Nothing on this page" in shown and 'href="/experiments?user=ada"' in shown


def test_what_is_chosen_goes_along_with_each_link_and_form(start: Serve) -> None:
    served = start()
    for number in range(60):
        served.agent.store.create_job(f"job-{number:03d}", "ob", {"model": "m"})
    shown = page(served, f"/experiments?job=job-005&job=job-059&job={quote(HTML)}&job=job-059&q=job")
    assert TICKED.findall(shown) == ["job-059"]  # job-005 is on the next page
    search, choose = re.findall(r"<form class=\"card.*?</form>", shown, re.DOTALL)
    assert [html.unescape(name) for name in HIDDEN.findall(search)] == ["job-005", "job-059", HTML]
    assert [html.unescape(name) for name in HIDDEN.findall(choose)] == ["job-005", HTML]
    assert "3 chosen" in words(shown)
    links = re.findall(r'href="([^"]*)"[^>]* data-keeps', shown)
    assert len(links) >= 12 and all("job=job-005&amp;job=job-059&amp;job=%3Cscript" in link for link in links)
    assert "job=" not in re.findall(r'href="([^"]*)" data-unchoose', shown)[0]
    assert "job=" not in re.findall(r'data-live="([^"]*)"', shown)[0]  # what is followed is the same for all
    assert TICKED.findall(page(served, "/experiments?page=2&job=job-005&job=job-059")) == ["job-005"]
    many = "&".join(f"job=x{number}" for number in range(150))
    assert "50 chosen" in words(page(served, f"/experiments?{many}"))


def test_rows_of_jobs_that_run_come_anew_and_the_others_stay(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "REFRESH_S", 0.0)
    served.app.state.live.round_s = 0.1
    wait_for_figures(served)
    job = Job(served, "grows", "ob")
    attempt = job.start()
    job.step(attempt, 1, training_loss=4.25)
    (address,) = re.findall(r'data-live="([^"]*)"', page(served, "/experiments?q=&sort=job"))
    with connected(served) as connection:
        connection.request("GET", html.unescape(address))
        lines = connection.getresponse()

        def heard(until: str) -> dict[str, str]:
            """The newest of each part, from now until one holds a text."""
            parts: dict[str, str] = {}
            end = time.monotonic() + 60
            while time.monotonic() < end and (line := lines.readline()):
                if line.startswith(b"data: "):
                    parts |= json.loads(line.removeprefix(b"data: "))["parts"]
                    if any(until in text for text in parts.values()):
                        return parts
            raise AssertionError(f"{until} does not come: {parts}")

        first = heard("4.25")
        assert {"experiments-count", "row-quick", "row-bad", "row-waiting", "experiments-pages"} < set(first)
        job.step(attempt, 2, training_loss=3.125)
        assert set(heard("3.125")) == {"row-grows"}
        served.agent.store.create_job("another", "ob", {"model": "m"})
        new = heard("row-another")
        assert "1 to 6 of 6" in new["experiments-count"] and "row-quick" not in new
        job.end()
        assert "status-completed" in heard("status-completed")["row-grows"]


def test_what_cannot_be_asked_is_not_followed(served: Served) -> None:
    assert "data-live" not in page(served, "/experiments?where=loss")


def test_a_job_that_never_ran_took_no_gpu_hours(served: Served) -> None:
    store = served.agent.store
    store.create_job("called-off", "ob", {"model": "m"})
    store.set_job("called-off", "stopped", "cancelled")
    wait_for_figures(served)
    for name, hours in (("called-off", "-"), ("waiting", "-"), ("quick", "0")):
        (row,) = re.findall(rf'<tr id="row-{name}">.*?</tr>', page(served, "/experiments"), re.DOTALL)
        assert re.search(r'data-label="GPU h" class="num">([^<]*)<', row)[1][0] == hours, name  # type: ignore[index]
