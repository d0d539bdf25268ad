# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What somebody typed is not lost when their session ended meanwhile; in Chromium, at a server of its own."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

from playwright.sync_api import Browser, expect

from tests.unit.api_server import Serve, start  # noqa: F401 - a fixture
from tests.unit.browser import Browser as Plain
from tests.unit.browser import free_port
from ugro_py.paths import JobPaths

CODE = "\n\nprint('<b>one</b> & \"two\"')\n\n  # </textarea><script>alert(1)</script>\n"


def test_a_form_that_was_refused_is_sent_after_signing_in_again(browser: Browser, start: Serve) -> None:
    served = start(dashboard=free_port())
    link = Plain(served).client.post("/v1/dashboard/link")["url"]
    with browser.new_context(base_url=f"http://localhost:{served.dashboard}") as context:
        page = context.new_page()
        page.goto(link)
        page.goto("/launch")
        page.get_by_label("Name").fill("typed")
        page.locator("[name=code]").evaluate("(area, text) => { area.value = text; }", CODE)
        page.locator("[name=hold]").evaluate("box => { box.checked = true; }")
        (cookie,) = (one for one in context.cookies() if one["name"].startswith("ugro_session"))
        served.app.state.sessions.end(cookie["value"])  # signed out elsewhere, or a week is over
        page.locator("form[action='/launch'] button.primary").click()
        expect(page.get_by_role("heading", name="Not sent yet")).to_be_visible()
        expect(page.locator("main")).to_contain_text("you are signed out")
        expect(page.get_by_label("name", exact=True)).to_have_value("typed")
        expect(page.get_by_label("code", exact=True)).to_have_value(CODE)

        other = context.new_page()
        other.goto(Plain(served).client.post("/v1/dashboard/link")["url"])
        page.get_by_role("button", name="Send again").click()
        expect(page.locator("main")).to_contain_text("Nothing was changed")  # it says whose session it is now
        expect(page.get_by_label("code", exact=True)).to_have_value(CODE)
        assert not served.agent.store.jobs()
        page.get_by_role("button", name="Send", exact=True).click()
        expect(page.locator("#notices")).to_contain_text("Job typed is in the queue")
    assert served.agent.store.job("typed").held
    (sent,) = JobPaths("typed").spool.rglob("script.py")
    assert sent.read_text() == CODE
