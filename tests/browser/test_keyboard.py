# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The dashboard with the keyboard alone: Tab comes to everything in order, and one sees where one is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.site import PAGES, Site, Visitor, says, until

pytestmark = [pytest.mark.lab, pytest.mark.slow]
Visit = Callable[..., Visitor]

# All that can have the focus now, in the order of the document. What is done with it is told by its number.
REMEMBER = """() => {
    const all = 'a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex="0"]';
    window.seen = [...document.querySelectorAll(all)].filter(one => !one.disabled && one.checkVisibility()
        && !one.closest('[hidden]') && !(one.closest('details:not([open])') && one.tagName !== 'SUMMARY'));
    return window.seen.map(one => one.tagName + ' '
        + (one.getAttribute('aria-label') || one.innerText || one.id || one.name || '').trim().slice(0, 40));
}"""
WHERE = """() => { const one = document.activeElement, style = getComputedStyle(one), box = one.getBoundingClientRect();
    const ring = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0;
    const there = box.width > 0 && box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
    return [one === document.body, window.seen.indexOf(one), (ring || style.boxShadow !== 'none') && there,
            one.outerHTML.slice(0, 120)]; }"""


@pytest.mark.parametrize("path", PAGES)
def test_tab_comes_to_everything_in_order(full: Site, visit: Visit, path: str) -> None:
    page = visit().go(path)
    says(page, PAGES[path])
    if path == "/experiments/live":
        expect(page.locator("canvas").first).to_be_visible()
        page.locator("#bottlenecks").scroll_into_view_if_needed()  # what comes when one is near is there before
        expect(page.locator("section:has(#bottlenecks) table")).to_be_visible()
        page.evaluate("scrollTo(0, 0)")
    names: list[str] = page.evaluate(REMEMBER)
    order: list[int] = []
    unseen = []
    for _ in range(len(names) + 40):
        page.keyboard.press("Tab")
        is_over, number, seen, html = page.evaluate(WHERE)
        if is_over:
            break
        if number >= 0:
            order.append(number)
        if not seen:
            unseen.append(html)
    else:
        raise AssertionError(f"Tab comes to no end: {[names[number] for number in order]}")
    assert order == sorted(order), f"it goes back and forth: {[names[number] for number in order]}"
    # What is live is sometimes made anew; that is never much.
    missed = [name for number, name in enumerate(names) if number not in order]
    assert not missed, f"Tab does not come to: {missed}"
    assert not unseen, f"one cannot see that these have the focus: {unseen}"


def test_the_content_is_one_key_away(page: Page) -> None:
    page.goto("/experiments/live")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    expect(page.locator(".skip")).to_be_in_viewport()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_a_question_is_asked_and_left_with_keys(site: Site, page: Page) -> None:
    site.launch("kept", "--nodes", "3", "--hold")
    page.goto("/experiments/kept")
    expect(page.locator("#live-state")).to_have_text("Live")
    question = page.locator("#confirm-stop")
    summary = question.locator("summary")
    summary.focus()
    page.keyboard.press("Enter")
    yes = page.get_by_role("button", name="Yes, cancel it")
    expect(yes).to_be_visible()
    page.keyboard.press("Tab")
    expect(yes).to_be_focused()
    page.keyboard.press("Escape")
    expect(yes).to_be_hidden()
    expect(summary).to_be_focused()
    assert site.ugro.job("kept").status == "pending"
    page.keyboard.press("Space")
    expect(yes).to_be_visible()
    page.locator("h1").click()  # beside it
    expect(yes).to_be_hidden()
    summary.focus()
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    until(lambda: site.ugro.job("kept").status == "stopped", "it is cancelled")


def test_questions_of_the_browser_can_be_left(site: Site, visit: Visit) -> None:
    visitor = visit(asks="dismiss")
    page = visitor.go("/")
    button = page.get_by_role("button", name="Stop job live")
    button.focus()
    page.keyboard.press("Enter")
    until(lambda: visitor.asked, "the question")
    assert "Stop job live?" in visitor.asked[0]
    expect(page.locator(".notice")).to_have_count(0)
    assert not site.ugro.job("live").stop_requested
