# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What somebody has typed or opened on a page stays while the page goes on; in Chromium, at a server of its own."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, expect

from tests.browser.test_signed_out import link, opened
from tests.ports import free_port
from tests.unit.api_server import Serve, Served, start  # noqa: F401 - a fixture
from tests.unit.browser import Browser as Plain
from ugro_py import users

ME = users.me().user


@contextmanager
def followed(browser: Browser, start: Serve, path: str) -> Iterator[tuple[Served, Page]]:
    """A server with a job `mine` that waits, and a page of it that follows what happens."""
    served = start(dashboard=free_port())
    served.agent.store.create_job("mine", ME, {"name": "mine"})
    with opened(browser, served) as page:
        page.goto(link(served))
        page.goto(path)
        expect(page.locator("#live-state")).to_have_text("Live")
        yield served, page


def test_a_question_that_is_open_stays_open_when_the_job_changes(browser: Browser, start: Serve) -> None:
    with followed(browser, start, "/experiments/mine") as (served, page):
        page.locator("#confirm-stop summary").click()
        yes = page.get_by_role("button", name="Yes, cancel it")
        expect(yes).to_be_visible()
        Plain(served).client.post("/v1/jobs/mine/hold")
        expect(page.get_by_role("button", name="Release")).to_be_visible()  # the buttons are those of a held job
        expect(yes).to_be_visible()
        expect(page.locator("#confirm-stop summary")).to_be_focused()
        yes.click()
        expect(page.locator("#confirm-stop")).to_have_count(0)
        rerun = page.locator("#confirm-rerun")
        expect(rerun).to_be_visible()
        expect(rerun).not_to_have_attribute("open", "")  # another question is another's
    assert served.agent.store.job("mine").status == "stopped"


def test_what_was_typed_stays_until_it_is_sent(browser: Browser, start: Serve) -> None:
    with followed(browser, start, "/queue") as (served, page):
        line = page.locator("#queued-mine")
        line.locator("summary").click()
        field = line.locator("input[name=priority]")
        field.fill("99")
        page.locator("h1").click()  # somebody looks at something else
        served.agent.store.create_job("other", ME, {"name": "other"})
        expect(page.locator("#queued-other")).to_be_visible()  # the table was made anew
        expect(field).to_have_value("99")
        line.get_by_role("button", name="Set priority").click()
        expect(line.locator("[data-label=Priority]")).to_have_text("99")
        page.locator("h1").click()
        Plain(served).client.post("/v1/jobs/mine/priority", {"priority": 20})
        expect(field).to_have_value("20")  # what was sent is the server's
