# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Pages that follow what happens, on a real server: what is sent, how often it is made, who gets which token."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.unit.api_server import Served
from tests.unit.browser import Browser, browser, hidden, served, start  # noqa: F401 - fixtures
from ugro_py import users
from ugro_py.errors import StateError
from ugro_py.web import live
from ugro_py.web.render import FORGERY_PLACE

ME = users.me().user


def messages(answer: http.client.HTTPResponse) -> Iterator[tuple[str, Any]]:
    """The events of a stream, (kind, data)."""
    kind = ""
    while line := answer.readline():
        text = line.decode().rstrip("\n")
        if text.startswith("event: "):
            kind = text.removeprefix("event: ")
        elif text.startswith("data: "):
            yield kind, json.loads(text.removeprefix("data: "))


def until(wanted: Callable[[], bool], seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if wanted():
            return True
        time.sleep(0.02)
    return False


def test_a_page_gets_all_of_itself_and_then_what_changes(browser: Browser, served: Served) -> None:
    store = served.agent.store
    store.create_job("one", ME, {"name": "one"})
    with browser.opened("GET", "/live/cluster") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        stream = messages(answer)
        kind, first = next(stream)
        assert kind == "parts" and first["order"] == list(first["parts"]) and "node-here" in first["order"]
        page = browser.get("/").text
        assert all(html.strip().split("\n")[0] in page for html in first["parts"].values())  # what a page has anyway
        store.drain("here", "ana", "new fan", address="127.0.0.1")
        changed: dict[str, str] = {}
        for _, message in stream:
            changed |= message["parts"]
            assert message["order"] is None
            if "new fan" in changed.get("node-here", ""):
                break
        assert "cluster-jobs" not in changed  # nothing of it changed, so it was not sent again


def test_events_come_as_they_happen_and_leave_at_the_end(browser: Browser, served: Served) -> None:
    store = served.agent.store
    with browser.opened("GET", "/live/events?severity=warning") as answer:
        stream = messages(answer)
        assert list(next(stream)[1]["parts"]) == ["no-event"]
        store.create_job("one", ME, {"name": "one"})  # an event that is not wanted
        store.set_job("one", "failed", "<b>out of memory</b>", 7)
        _, message = next(stream)
        (name,) = message["order"]
        assert name.startswith("event-") and "&lt;b&gt;out of memory" in message["parts"][name]


def test_many_who_look_share_one_making_and_have_their_own_tokens(browser: Browser, served: Served) -> None:
    served.agent.store.create_job("one", ME, {"name": "one"})
    viewers = [Browser(served) for _ in range(12)]
    for one in viewers:
        one.sign_in()
    tokens = [hidden(one.get("/queue").text, "csrf") for one in viewers]
    assert len(set(tokens)) == len(viewers)
    pages = served.app.state.live
    got: list[str] = [""] * len(viewers)
    ready, stop = threading.Barrier(len(viewers) + 1), threading.Event()

    def look(number: int) -> None:
        with viewers[number].opened("GET", "/live/queue") as answer:
            stream = messages(answer)
            got[number] = next(stream)[1]["parts"]["queue-jobs"]
            ready.wait(60)
            for _, message in stream:
                got[number] = message["parts"]["queue-jobs"]
                if "Release" in got[number]:
                    break
            stop.wait(60)

    threads = [threading.Thread(target=look, args=(number,)) for number in range(len(viewers))]
    for thread in threads:
        thread.start()
    ready.wait(60)
    for token, html in zip(tokens, got, strict=True):
        assert token in html and FORGERY_PLACE not in html
        assert not any(other in html for other in tokens if other != token)
    assert len(pages._topics) == 1
    assert viewers[0].send("/experiments/one/hold", {}).status == 303
    assert until(lambda: all("Release" in html for html in got))
    before, begun = pages.made, time.monotonic()
    assert until(lambda: pages.made >= before + 2)
    assert pages.made - before <= 2 + 3 * (time.monotonic() - begun)  # made for all of them, not for each
    stop.set()
    for thread in threads:
        thread.join(60)
    assert until(lambda: not pages._topics)  # nobody looks: nothing is made


def test_who_may_less_sees_less(browser: Browser, served: Served) -> None:
    """An admin's parts are never those of somebody else: they are kept by who looks."""
    other = Browser(served)
    session = served.app.state.sessions
    other.cookies[f"ugro_session_{other.port}"] = session.begin(users.Person("65000", 65000))
    served.agent.store.create_job("one", ME, {"name": "one"})
    with browser.opened("GET", "/live/queue") as mine, other.opened("GET", "/live/queue") as theirs:
        assert "/experiments/one/cancel" in next(messages(mine))[1]["parts"]["queue-jobs"]
        assert "/experiments/one/cancel" not in next(messages(theirs))[1]["parts"]["queue-jobs"]


def test_trouble_is_told_and_ends(browser: Browser, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    with browser.opened("GET", "/live/queue") as answer:
        stream = messages(answer)
        next(stream)

        def broken() -> object:
            raise StateError("read the queue", "the database is away")

        with monkeypatch.context() as patch:
            patch.setattr(served.agent.store, "queued", broken)
            kind, text = next(stream)
            assert kind == "trouble" and "the database is away" in text
        kind, text = next(stream)
        assert (kind, text) == ("trouble", "")


def test_nobody_can_follow_so_much_that_others_cannot(
    browser: Browser, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Browser(served)
    other.cookies[f"ugro_session_{other.port}"] = served.app.state.sessions.begin(users.Person("65000", 65000))
    monkeypatch.setattr(live, "_MOST_TOPICS_EACH", 2)
    with browser.opened("GET", "/live/queue") as one, browser.opened("GET", "/live/health") as two:
        assert [next(messages(answer))[0] for answer in (one, two)] == ["parts", "parts"]
        with browser.opened("GET", "/live/cluster") as third:
            assert next(messages(third)) == ("trouble", "too many different pages are open")
        with browser.opened("GET", "/live/queue") as same, other.opened("GET", "/live/cluster") as theirs:
            assert [next(messages(answer))[0] for answer in (same, theirs)] == ["parts", "parts"]


def test_streams_end_with_the_session(browser: Browser, served: Served) -> None:
    served.agent.store.create_job("one", ME, {"name": "one"})
    for address in ("/live/queue", "/experiments/one/live"):
        with browser.opened("GET", address) as answer:
            assert answer.readline()
            assert browser.send("/logout", {}).headers["location"] == "/login"
            for _ in answer:  # to its end
                pass
        browser.sign_in()


def test_only_pages_of_this_dashboard_can_be_followed(browser: Browser) -> None:
    assert browser.get("/live/nope").status == 404
    for site in ("cross-site", "same-site"):
        assert browser.get("/live/queue", sec_fetch_site=site).status == 403
    with browser.opened("GET", "/live/events?severity=loud") as answer:
        kind, text = next(messages(answer))
        assert kind == "trouble" and "severity" in text
