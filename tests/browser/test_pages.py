# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Every page of the dashboard in Chromium: in light and dark, wide and as narrow as a phone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.axe import violations
from tests.browser.site import PAGES, Site, Visitor, no_overflow, says

pytestmark = [pytest.mark.lab, pytest.mark.slow]
Visit = Callable[..., Visitor]


LOOKS = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"color_scheme": "light", "viewport": {"width": 360, "height": 780}, "is_mobile": True, "has_touch": True},
}


@pytest.mark.parametrize("look", LOOKS)
def test_pages_are_whole_and_for_everybody(full: Site, visit: Visit, look: str) -> None:
    visitor = visit(**LOOKS[look])
    found = []
    for path, text in PAGES.items():
        page = visitor.go(path)
        says(page, text)
        assert page.title().endswith("UGRO") and page.locator("h1").count() == 1
        if path in ("/experiments/live", "/compare?job=live&job=done"):
            expect(page.locator("canvas").first).to_be_visible()
        found += [f"{path}: {line}" for line in violations(page)]
        no_overflow(page)
    assert not found, "\n".join(found)


def test_the_choice_of_colours_stays(visit: Visit) -> None:
    page = visit(color_scheme="light").go("/")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    for _ in range(3):
        page.locator("#theme-form button").click()
        if page.locator("html").get_attribute("data-theme") == "dark":
            break
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    assert page.evaluate(ground) == dark


def test_nobody_gets_in_without_a_link_and_a_link_is_for_once(site: Site, visit: Visit) -> None:
    stranger = visit(signed_in=False)
    page = stranger.page
    page.goto("/experiments/live")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert "/login" in page.url
    assert not violations(page)
    link = site.link()
    page.goto(link)
    expect(page.locator("nav")).to_be_visible()
    cookie = next(cookie for cookie in stranger.context.cookies() if "session" in cookie["name"])
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict"
    assert cookie["value"] not in page.evaluate("document.cookie")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    answer = page.goto(link)
    assert answer is not None and answer.status == 403
    says(page, "was used already")


def test_errors_are_pages_too(visit: Visit) -> None:
    page = visit().page
    for path, status in (("/experiments/no-such-job", 404), ("/no/such/page", 404), ("/events?severity=loud", 400)):
        answer = page.goto(path)
        assert answer is not None and answer.status == status
        expect(page.locator("h1")).to_be_visible()
        expect(page.locator("nav").first).to_be_visible()
        assert not violations(page)
