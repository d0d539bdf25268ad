# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What the dashboard's buttons do, on a real server and store: as the verbs, with and without JavaScript."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import html

import pytest

from tests.unit.api_server import Served
from tests.unit.browser import Browser, browser, served, start  # noqa: F401 - fixtures
from tests.unit.web_jobs import words
from ugro_py import paths, users
from ugro_py.queue import spool
from ugro_py.state import Store

ME = users.me().user


@pytest.fixture
def store(served: Served) -> Store:
    for name in ("one", "two"):
        served.agent.store.create_job(name, ME, {"name": name})
    return served.agent.store


def test_jobs_that_wait_are_held_released_reordered_and_cancelled(browser: Browser, store: Store) -> None:
    answer = browser.send("/experiments/one/hold", {"next": "/queue"})
    assert answer.status == 303 and answer.headers["location"] == "/queue"
    assert "Job one is held." in browser.get("/queue").text
    assert "Job one is held." not in browser.get("/queue").text  # told once
    assert store.job("one").held_by == ME
    part = browser.send("/experiments/one/release", {}, hx_request="true")
    assert part.status == 200 and "Job one was released." in part.text and "<html" not in part.text
    assert browser.send("/experiments/two/priority", {"priority": "urgent"}).headers["location"] == "/experiments/two"
    assert store.job("two").priority == 90
    for wrong in ("101", "-1", "soon", ""):
        assert browser.send("/experiments/two/priority", {"priority": wrong}).status == 400, wrong
    browser.send("/experiments/two/priority", {"priority": "50"})
    browser.send("/experiments/two/move", {"to": "first"})
    assert browser.get("/queue").text.index("queued-two") < browser.get("/queue").text.index("queued-one")
    browser.send("/experiments/two/move", {"to": "last"})
    assert browser.get("/queue").text.index("queued-one") < browser.get("/queue").text.index("queued-two")
    browser.send("/experiments/two/move", {"before": "one"})
    assert browser.get("/queue").text.index("queued-two") < browser.get("/queue").text.index("queued-one")
    assert browser.send("/experiments/two/move", {"to": "second"}).status == 400
    assert browser.send("/experiments/two/move", {"before": "none"}).status == 404
    browser.send("/experiments/one/cancel", {})
    assert store.job("one").status == "stopped"
    verbs = [line.verb for line in store.audit()]
    assert verbs[:3] == ["hold", "release", "priority"] and verbs[-1] == "cancel"
    assert {(line.data or {})["door"] for line in store.audit()} == {"web"}


def test_a_job_is_stopped_noted_and_tagged(browser: Browser, store: Store) -> None:
    browser.send("/experiments/one/note", {"text": "better with <b>dropout</b>\r\nsecond line"})
    assert store.note("one") == "better with <b>dropout</b>\nsecond line"
    browser.send("/experiments/one/tags", {"tags": "good, baseline"})
    assert sorted(store.tags("one")) == ["baseline", "good"]
    assert browser.send("/experiments/one/tags", {"tags": "<script>"}).status == 400
    assert sorted(store.tags("one")) == ["baseline", "good"]
    browser.send("/experiments/one/tags", {"tags": ""})
    assert list(store.tags("one")) == []
    with_tags = {"tags": "", "next": "/experiments/one#tags"}
    assert browser.send("/experiments/one/tags", with_tags).headers["location"] == "/experiments/one#tags"
    text = browser.get("/experiments/one").text  # it is told in the form that asked, far below the top of the page
    places = [text.index(word) for word in ("/experiments/one/tags", "Job one has no tags.", "/experiments/one/note")]
    assert places == sorted(places)
    browser.send("/experiments/one/tags", with_tags)
    assert "Job one has no tags." in browser.get("/queue").text and "no tags." not in browser.get("/queue").text
    part = browser.send("/experiments/one/stop", {}, hx_request="true")
    assert part.status == 200 and "was stopped" in part.text and store.job("one").status == "stopped"
    assert "had ended already" in browser.send("/experiments/one/stop", {}, hx_request="true").text
    assert browser.send("/experiments/none/stop", {}).status == 404
    assert browser.send("/experiments/..%2fx/stop", {}).status == 404


def test_a_job_goes_on_or_begins_again(browser: Browser, store: Store) -> None:
    assert browser.send("/launch", {"name": "first", "hold": "yes", "epochs": "1"}).status == 303
    browser.send("/experiments/first/stop", {})
    assert store.job("first").status == "stopped"
    answer = browser.send("/experiments/first/rerun", {"name": "again"}, hx_request="true")
    assert answer.status == 204 and answer.headers["hx-redirect"] == "/experiments/again"
    assert store.job("again").request["epochs"] == 1
    assert browser.send("/experiments/first/rerun", {"name": "Not A Name"}).status == 400
    assert browser.send("/experiments/first/resume", {}).status in (303, 400)  # there is no checkpoint to go on from


def test_a_form_launches_what_the_verb_would(browser: Browser, store: Store, served: Served) -> None:
    form = {
        "name": "web-job", "model": "tiny-llama", "dataset": "python-docs", "epochs": "3", "gpus": "2x8GB..",
        "nodes": "", "priority": "batch", "time_limit": "2h30m", "retry": "1", "exclude": "gpu1, gpu2:0", "hold": "yes",
    }  # fmt: skip
    answer = browser.send("/launch", form, page="/launch")
    assert answer.status == 303 and answer.headers["location"] == "/experiments/web-job"
    asked = store.job("web-job").request
    assert (asked["epochs"], asked["gpus"], asked["min_vram_gb"], asked["retry"]) == (3, 2, 8.0, 1)
    assert (store.job("web-job").priority, asked["time_limit_s"], asked["exclude"]) == (10, 9000.0, ["gpu1", "gpu2:0"])
    assert store.job("web-job").held and served.agent.woken == 0
    assert (spool.load("web-job").code.root / "train_production.py").is_file()
    assert "is in the queue" in browser.get("/queue").text


def test_a_script_is_launched_as_it_was_typed(browser: Browser, store: Store) -> None:
    code = "import os\r\nprint(os.environ['RANK'], 'é <b>')\r\n"
    form = {"name": "typed", "model": "tiny-llama", "epochs": "2", "code": code, "args": "--lr 3e-4", "hold": "yes"}
    answer = browser.send("/launch", form, page="/launch")
    assert answer.status == 303, answer.text
    asked = store.job("typed").request
    assert asked["script"] == "script.py" and asked["args"] == ["--lr", "3e-4"]
    text = (spool.load("typed").code.root / "script.py").read_text()
    assert text == code.replace("\r\n", "\n")
    assert list(paths.spool_inbox().iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [{"name": "Not A Name"}, {"name": "../../etc"}, {"epochs": "many"}, {"gpus": "some"}, {"model": "/etc/passwd"},
     {"dataset": "../x"}, {"priority": "1000"}, {"time_limit": "soon"}, {"nodes": "²"}, {"epochs": "0"}],
)  # fmt: skip
def test_a_form_that_cannot_be_used_comes_back(browser: Browser, store: Store, wrong: dict[str, str]) -> None:
    answer = browser.send("/launch", {"name": "fine", "hold": "yes", **wrong}, page="/launch")
    assert answer.status == 400 and 'role="alert"' in answer.text and "<form" in answer.text, answer.text
    assert f'value="{wrong.get("name", "fine")}"' in answer.text  # what was typed is still there
    assert {job.name for job in store.jobs()} == {"one", "two"}


def test_nodes_are_drained_and_get_jobs_again(browser: Browser, served: Served) -> None:
    health = browser.get("/health").text
    assert "The agent has not looked at it yet." in health and "No agent runs" not in health
    browser.send("/nodes/here/drain", {"reason": "new\r\n<b>fan</b>"})
    (row,) = [row for row in served.agent.store.nodes() if row.name == "here"]
    assert row.drain and row.drain_reason == "new <b>fan</b>" and row.drained_by == ME
    health = browser.get("/health").text
    assert "&lt;b&gt;fan" in health and "Drained since" in health, "not since when it was found healthy"
    assert f'<time datetime="{served.agent.store.drained_since()["here"].isoformat(timespec="seconds")}">' in health
    assert browser.send("/nodes/here/drain", {"reason": "x" * 501}).status == 400
    assert "gets jobs again" in browser.send("/nodes/here/resume", {}, hx_request="true").text
    assert browser.send("/nodes/none/drain", {}).status == 404


def test_what_cannot_be_kept_is_in_its_field_again_without_a_script(browser: Browser, store: Store) -> None:
    store.set_note("one", "kept note")
    store.set_tags("one", ["kept"])
    long = "<i>" + "x" * 20_001 + "\nlast"
    answer = browser.send("/experiments/one/note", {"note": long.replace("\n", "\r\n")})
    assert answer.status == 400 and store.note("one") == "kept note"
    assert html.escape(long, quote=False) + "</textarea>" in answer.text and "characters" in words(answer.text)
    answer = browser.send("/experiments/one/tags", {"tags": "good b<ad"})
    assert answer.status == 400 and list(store.tags("one")) == ["kept"]
    text = answer.text
    assert "<h1>one</h1>" in text and 'value="good b&lt;ad"' in text and "\nkept note</textarea>" in text
    words_of = ('id="tags"', 'aria-invalid="true"', "Save tags", 'role="alert"><strong>', 'id="note"')
    places = [text.index(word) for word in words_of]
    assert places == sorted(places) and text.count('role="alert"><strong>') == 1
    # The form of the theme leads back to a page: nobody can open /experiments/one/tags.
    assert 'name="next" value="/experiments/one"' in text
    part = browser.send("/experiments/one/tags", {"tags": "b<ad"}, hx_request="true")
    assert part.status == 400 and "<html" not in part.text  # there what was typed is still on the page
    assert browser.send("/experiments/none/tags", {"tags": "b<ad"}).status == 404


def test_tags_at_the_head_of_the_page_follow(browser: Browser, store: Store) -> None:
    assert 'id="job-tags" hidden>' in browser.get("/experiments/one").text
    part = browser.send("/experiments/one/tags", {"tags": "good base/line"}, hx_request="true").text
    assert 'id="job-tags" hx-swap-oob="true">' in part and 'href="/experiments?tag=base%2Fline"' in part
    assert part.index("has the tags base/line, good.") < part.index("job-tags")
    assert (
        'id="job-tags" hx-swap-oob="true" hidden>' in browser.send("/experiments/one/tags", {}, hx_request="true").text
    )
    assert "job-tags" not in browser.send("/experiments/one/hold", {}, hx_request="true").text
