# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What somebody typed is not lost when their session ended meanwhile; in Chromium, at a server of its own."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, expect

from tests.browser.axe import violations
from tests.browser.site import PATIENCE_MS
from tests.ports import free_port
from tests.unit.api_server import Serve, Served, start  # noqa: F401 - a fixture
from tests.unit.browser import Browser as Plain
from ugro_py.paths import JobPaths

CODE = "\n\nprint('<b>one</b> & \"two\"')\n\n  # </textarea><script>alert(1)</script>\n"


def link(served: Served) -> str:
    return str(Plain(served).client.post("/v1/dashboard/link")["url"])


@contextmanager
def opened(browser: Browser, served: Served, *, scripts: bool = True) -> Iterator[Page]:
    """A page of a browser that knows nothing yet."""
    url = f"http://localhost:{served.dashboard}"
    with browser.new_context(base_url=url, java_script_enabled=scripts) as context:
        context.set_default_timeout(PATIENCE_MS)
        context.set_default_navigation_timeout(PATIENCE_MS)
        yield context.new_page()


@contextmanager
def typed(browser: Browser, served: Served, *, scripts: bool) -> Iterator[Page]:
    """The page Launch with what somebody typed, and no session any more: signed out elsewhere, or a week is over."""
    with opened(browser, served, scripts=scripts) as page:
        page.goto(link(served))
        page.goto("/launch")
        page.locator("summary", has_text="A script of your own").click()
        page.locator("summary", has_text="Environment").click()
        page.locator("[name=name]").fill("typed")
        page.locator("[name=code]").fill(CODE)
        page.locator("[name=secrets]").fill("PASSWORD=canary")
        (cookie,) = (one for one in page.context.cookies() if one["name"].startswith("ugro_session"))
        served.app.state.sessions.end(cookie["value"])
        yield page


def test_a_page_keeps_what_was_typed_until_it_is_sent(browser: Browser, start: Serve) -> None:
    served = start(dashboard=free_port())
    with typed(browser, served, scripts=True) as page:
        send = page.locator("#do-launch")
        send.click()
        expect(page.locator("#answer")).to_contain_text("you are signed out")
        page.context.new_page().goto(link(served))
        send.click()
        expect(page.locator("#answer")).to_contain_text("its page is older than your session")
        assert not served.agent.store.jobs()
        send.click()
        expect(page.locator("#notices")).to_contain_text("Job typed is in the queue")
    (sent,) = JobPaths("typed").spool.rglob("script.py")
    assert sent.read_text() == CODE


def test_without_scripts_a_form_is_shown_again(browser: Browser, start: Serve) -> None:
    served = start(dashboard=free_port())
    with typed(browser, served, scripts=False) as page:
        page.locator("#do-launch").click()
        expect(page.get_by_role("heading", name="Not sent yet")).to_be_visible()
        expect(page.locator("main")).to_contain_text("you are signed out")
        expect(page.get_by_label("name", exact=True)).to_have_value("typed")
        expect(page.get_by_label("code", exact=True)).to_have_value(CODE)
        expect(page.locator("main")).to_contain_text("to be filled in anew: secrets")
        assert "canary" not in page.content()
        page.context.new_page().goto(link(served))
        page.get_by_role("button", name="Send again").click()
        expect(page.locator("main")).to_contain_text("Nothing was changed")  # it says whose session it is now
        expect(page.get_by_label("code", exact=True)).to_have_value(CODE)
        assert not served.agent.store.jobs()
        page.get_by_role("button", name="Send", exact=True).click()
        expect(page.locator("#notices")).to_contain_text("Job typed is in the queue")
    (sent,) = JobPaths("typed").spool.rglob("script.py")
    assert sent.read_text() == CODE


def test_the_page_of_a_form_that_was_not_taken_can_be_read_by_all(browser: Browser, start: Serve) -> None:
    served = start(dashboard=free_port())
    with opened(browser, served) as page:
        page.goto("/login")
        page.evaluate("""() => {
            const form = document.createElement('form');
            form.method = 'post';
            form.action = '/experiments/one/note';
            for (const [name, value] of [['text', 'a\\nb'], ['reason', 'short']]) {
                const field = document.createElement('textarea');
                [field.name, field.value] = [name, value];
                form.append(field);
            }
            document.body.append(form);
            form.submit();
        }""")
        expect(page.get_by_role("heading", name="Not sent yet")).to_be_visible()
        assert violations(page) == []


def test_a_page_that_is_open_during_a_restart_goes_on(browser: Browser, start: Serve) -> None:
    port = free_port()
    served = start(dashboard=port)
    served.agent.store.create_job("mine", "root", {"name": "mine"})
    with opened(browser, served) as page:
        page.goto(link(served))
        page.goto("/queue")
        expect(page.locator("#live-state")).to_have_text("Live")
        served.close()
        expect(page.locator("#live-state")).to_contain_text("Not connected")
        served = start(dashboard=port)
        expect(page.locator("#live-state")).to_have_text("Live")
        page.get_by_role("button", name="Hold").first.click()
        expect(page.locator("#queued-mine .answer")).to_contain_text("Job mine is held")
    assert served.agent.store.job("mine").held
