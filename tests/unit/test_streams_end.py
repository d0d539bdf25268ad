# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Streams end with what they were begun with, all over a real server: the session, the token, the role."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.unit.api_server import Serve, Served, start  # noqa: F401 - a fixture
from tests.unit.browser import Browser
from tests.unit.test_web_sessions_kept import OTHER, TOKEN, tokens, write  # noqa: F401 - a fixture
from tests.unit.web_jobs import Job
from ugro_py.api import guard, standing
from ugro_py.api.server import Listen
from ugro_py.paths import JobPaths

API = ("/v1/events/stream", "/v1/jobs/first/metrics", "/v1/jobs/first/logs?follow=true")
LARGE = 1 << 29
PAGES = ("/live/queue", "/experiments/first/live?rank=all")


@pytest.fixture
def served(start: Serve, tokens: Path) -> Served:
    """A server with both doors, where a job runs."""
    found = start(Listen.parse(f"127.0.0.1:{free_port()}", tokens), dashboard=free_port())
    Job(found).start()
    return found


@contextmanager
def following(browser: Browser, *addresses: str, **headers: str) -> Iterator[list[http.client.HTTPResponse]]:
    """Streams that have begun."""
    with ExitStack() as stack:
        answers = [stack.enter_context(browser.opened("GET", address, **headers)) for address in addresses]
        assert [answer.status for answer in answers] == [200] * len(addresses)
        yield answers


def read_to_the_end(answers: list[http.client.HTTPResponse]) -> None:
    for answer in answers:
        answer.read()  # a test that waits for it in vain fails by the connection's timeout


def test_streams_of_a_session_end_when_it_is_ended(served: Served) -> None:
    browser, stays = Browser(served), Browser(served)
    browser.sign_in()
    stays.sign_in()
    with following(stays, *API, *PAGES) as others, following(browser, *API, *PAGES) as mine:
        assert browser.send("/logout", {}).status == 303
        read_to_the_end(mine)
        assert not any(answer.isclosed() for answer in others)


def test_streams_of_a_token_end_when_it_is_gone(served: Served, tokens: Path) -> None:
    write(tokens, f"nobody {TOKEN}\ndaemon {OTHER}\n")
    by_header, by_session, stays = Browser(served), Browser(served), Browser(served)
    by_session.send("/login", {"token": TOKEN}, page="/login")
    stays.send("/login", {"token": OTHER}, page="/login")
    assert stays.get("/v1/me").json()["user"] == "daemon"
    said = {"authorization": f"Bearer {TOKEN}"}
    with (
        following(stays, *API, *PAGES) as others,
        following(by_header, *API, *PAGES, **said) as first,
        following(by_session, *API, *PAGES) as second,
    ):
        write(tokens, f"daemon {OTHER}\n")
        read_to_the_end(first)
        read_to_the_end(second)
        assert not any(answer.isclosed() for answer in others)
    assert by_header.get("/v1/me", **said).status == 401 and by_session.get("/v1/me").status == 401


@pytest.mark.parametrize(
    "address",
    ["/experiments/first/artifacts/checkpoints/large", "/v1/jobs/first/files/checkpoints/large", "/v1/jobs/first/logs"],
)
def test_a_download_is_cut_off_with_its_session(
    served: Served, tokens: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setattr(standing, "CHECK_S", 0.2)
    monkeypatch.setattr(guard, "READER_TIMEOUT_S", 600.0)
    paths = JobPaths("first")
    for path in (paths.checkpoints / "large", paths.rank_log(0)):
        with path.open("wb") as file:
            file.truncate(LARGE)
    served.agent.store.set_job("first", "completed")  # else its logs are a stream
    write(tokens, f"nobody {TOKEN}\ndaemon {OTHER}\n")
    mine, stays = Browser(served), Browser(served)
    mine.send("/login", {"token": TOKEN}, page="/login")
    stays.send("/login", {"token": OTHER}, page="/login")
    with stays.opened("GET", address) as other, mine.opened("GET", address) as answer:
        assert other.status == answer.status == 200
        write(tokens, f"daemon {OTHER}\n")
        length, got, broken = answer.headers.get("content-length"), 0, False
        try:
            while part := answer.read(1 << 16):
                got += len(part)
                time.sleep(0.02)  # somebody with a slow line
        except (http.client.IncompleteRead, ConnectionError):
            broken = True
        # It is seen that it is not whole. Of a known length http.client tells nothing where the end is one of a block.
        assert broken or (length and got < int(length)), (length, got)
        assert got < LARGE
        assert len(other.read(1 << 24)) == 1 << 24


def test_pages_begin_anew_with_another_role(served: Served) -> None:
    browser = Browser(served)
    browser.send("/login", {"token": TOKEN}, page="/login")
    assert not browser.get("/v1/me").json()["admin"]
    with following(browser, *PAGES) as answers:
        served.agent.store.set_account("user", "nobody", role="admin")
        assert browser.get("/v1/me").json()["admin"]  # at once
        read_to_the_end(answers)
    with following(browser, "/live/queue") as answers, following(browser, *API):
        served.agent.store.set_account("user", "nobody", role="user")
        read_to_the_end(answers)


def test_nothing_goes_on_when_the_server_has_ended(served: Served) -> None:
    """Each `Served` sees to it that no task is left in its loop: Python complains of those that are destroyed."""
    browser = Browser(served)
    browser.sign_in()
    with following(browser, *API, *PAGES) as answers:
        for answer in answers[len(API) :]:
            answer.readline()
        served.close()
