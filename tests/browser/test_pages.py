# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Every page of the dashboard in Chromium: light, dark, on a phone, without JavaScript, with the keyboard alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.axe import violations
from tests.browser.site import Site, Visitor, no_overflow, says, until

pytestmark = [pytest.mark.lab, pytest.mark.slow]
Visit = Callable[..., Visitor]

# Path, and what is to be read there while the job `live` runs.
PAGES = {
    "/": "gpu-master",
    "/experiments": "live",
    "/experiments/live": "CPU-gpu-master-0",
    "/experiments/live/logs?rank=all": "step ",
    "/experiments/live/artifacts": "config.json",
    "/compare": "Nothing to compare yet",
    "/compare?job=live&job=done": "final loss",
    "/queue": "waits",
    "/health": "healthy",
    "/events": "pending -> ",
    "/launch": "Launch a job",
}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True, "device_scale_factor": 2}


@pytest.fixture
def full(site: Site) -> Site:
    """The site once there is something on each page: lines of two ranks, a job that has ended, one that waits."""
    site.printed("live", "step 3 ", 0, 1)
    site.ugro.wait_for("done", "completed")
    until(lambda: {row.health for row in _nodes(site)} == {"healthy"}, "all nodes are healthy")
    return site


def _nodes(site: Site) -> list[object]:
    with site.ugro.store() as store:
        return list(store.nodes())


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_whole_and_for_everybody(full: Site, visit: Visit, scheme: str) -> None:
    visitor = visit(color_scheme=scheme)
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


def test_on_a_phone_nothing_sticks_out(full: Site, visit: Visit) -> None:
    visitor = visit(**PHONE)
    for path, text in PAGES.items():
        page = visitor.go(path)
        says(page, text)
        no_overflow(page)
    found = violations(visitor.go("/experiments"))
    assert not found, "\n".join(found)


def test_without_a_script_pages_are_readable_and_forms_work(full: Site, visit: Visit) -> None:
    visitor = visit(java_script_enabled=False)
    for path, text in PAGES.items():
        says(visitor.go(path), text)
    page = visitor.go("/experiments/live")
    expect(page.locator("svg[role=img], .chart svg").first).to_be_visible()
    expect(page.locator("tr", has_text="gpu-master").first).to_be_visible()

    page.locator("#note").fill("written without a script")
    page.get_by_role("button", name="Save note").click()
    says(page, "The note of job live was kept.")
    expect(page.locator("#note")).to_have_value("written without a script")

    page = visitor.go("/events")
    page.locator("#job").fill("done")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("tbody tr").first).to_contain_text("done")
    assert "live" not in page.locator("tbody").inner_text()

    page = visitor.go("/experiments")
    page.get_by_label("Choose done").check()
    page.get_by_label("Choose live").check()
    page.get_by_role("button", name="Compare the chosen").click()
    says(page, "final loss")


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


def test_the_keyboard_reaches_everything(full: Site, visit: Visit) -> None:
    page = visit().go("/experiments/live")
    expect(page.locator("canvas").first).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    expect(page.locator(".skip")).to_be_in_viewport()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    reached: list[str] = []
    bare = []
    for _ in range(80):
        page.keyboard.press("Tab")
        name, seen = page.evaluate(
            """() => { const one = document.activeElement, style = getComputedStyle(one);
            const box = one.getBoundingClientRect();
            const ring = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0;
            return [one.tagName + ' ' + (one.innerText || one.id || one.getAttribute('aria-label') || '').trim()
                    .slice(0, 40), (ring || style.boxShadow !== 'none') && box.width > 0] }"""
        )
        reached.append(name)
        if not seen and not name.startswith("BODY"):
            bare.append(name)
        if "Save note" in name:
            break
    everything = " | ".join(reached)
    for name in ("Stop", "Compare", "chart-smooth", "log-search", "Save tags", "Save note"):
        assert name in everything, f"{name} is not among {everything}"
    assert not bare, f"one cannot see that these have the focus: {bare}"


def test_errors_are_pages_too(visit: Visit) -> None:
    page = visit().page
    for path, status in (("/experiments/no-such-job", 404), ("/no/such/page", 404), ("/events?severity=loud", 400)):
        answer = page.goto(path)
        assert answer is not None and answer.status == status
        expect(page.locator("h1")).to_be_visible()
        expect(page.locator("nav").first).to_be_visible()
        assert not violations(page)
