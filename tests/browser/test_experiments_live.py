# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The list of experiments and a comparison in Chromium while jobs go on: what is new comes, what was chosen stays."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.site import Site, drawn

pytestmark = [pytest.mark.lab, pytest.mark.slow]

TEXT = "name => document.querySelector(`tr:has(a[href='/experiments/${name}'])`)?.innerText"


@pytest.fixture(autouse=True)
def ready(site: Site) -> None:
    """Two ranks have printed, and there is a job that has ended."""
    site.printed("live", "step 3 ", 0, 1)
    site.ugro.wait_for("done", "completed")


def row(job: str) -> str:
    """Return the selector of a job's row."""
    return f"table.experiments tr:has(a[href='/experiments/{job}'])"


def test_the_list_goes_on_and_leaves_what_somebody_does_there(site: Site, page: Page) -> None:
    page.goto("/experiments")
    expect(page.locator("#live-state")).to_have_text("Live")
    page.evaluate("window.sameDocument = true")
    page.get_by_label("Choose live").check()
    page.get_by_label("Choose done").check()
    page.get_by_label("Choose done").focus()
    before = page.evaluate(TEXT, "live")
    count = page.locator("#experiments-count").inner_text()
    page.wait_for_function(f"([name, old]) => ({TEXT})(name) !== old", arg=["live", before], polling=100)
    expect(page.get_by_label("Choose done")).to_be_focused()
    page.locator("#q").fill("half a wo")
    site.launch("comes-later", "--nodes", "3", "--hold")
    expect(page.locator(row("comes-later"))).to_contain_text("pending")
    expect(page.locator("table.experiments tbody tr").first).to_contain_text("comes-later")
    expect(page.locator("#experiments-count")).not_to_have_text(count)
    expect(page.get_by_label("Choose comes-later")).not_to_be_checked()
    page.get_by_label("Choose comes-later").check()
    site.client.post("/v1/jobs/comes-later/cancel")
    expect(page.locator(row("comes-later"))).not_to_contain_text("pending")
    for name in ("comes-later", "live", "done"):
        expect(page.get_by_label(f"Choose {name}")).to_be_checked()
    expect(page.locator("[data-chosen]")).to_have_text("3 chosen")
    expect(page.locator("#q")).to_have_value("half a wo")
    assert page.evaluate("window.sameDocument")


def test_what_is_chosen_stays_chosen(page: Page) -> None:
    page.goto("/experiments")
    told, none = page.locator("[data-chosen]"), page.get_by_role("link", name="Choose none")
    expect(none).to_be_hidden()
    page.get_by_label("Choose live").check()
    page.locator("#q").fill("done")
    page.keyboard.press("Enter")
    page.wait_for_url("**/experiments?*q=done*")
    expect(told).to_have_text("1 chosen")
    page.get_by_label("Choose done").check()
    expect(told).to_have_text("2 chosen")
    page.get_by_role("link", name="Steps").click()
    page.wait_for_url(lambda url: "sort=" in url and "job=live" in url and "job=done" in url)
    page.get_by_role("link", name="Clear").click()
    for name in ("live", "done"):
        expect(page.get_by_label(f"Choose {name}")).to_be_checked()
    page.locator("#q").fill("no run has this name")
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_contain_text("No experiment fits")
    expect(told).to_have_text("2 chosen")
    page.get_by_role("button", name="Compare the chosen").click()
    page.wait_for_url("**/compare?*")
    assert "job=live" in page.url and "job=done" in page.url
    page.go_back()
    expect(told).to_have_text("2 chosen")
    page.get_by_role("link", name="show all").click()
    expect(page.get_by_label("Choose done")).to_be_checked()
    none.click()
    expect(told).to_be_empty()
    expect(page.get_by_label("Choose done")).not_to_be_checked()
    assert "job=" not in page.url


def test_a_comparison_goes_on(site: Site, page: Page) -> None:
    page.goto("/compare?job=live&job=done")
    expect(page.locator("#live-state")).to_have_text("Live")
    page.evaluate("window.sameDocument = true")
    drawn(page, "[data-compare-chart] canvas")
    legend = page.locator("[data-compare-chart] .u-legend")
    legend.locator("th", has_text="done").click()
    hidden = legend.locator(".u-off")
    expect(hidden).to_have_count(1)
    # Without a pointer over the chart its legend tells the newest values.
    live = legend.locator(".u-series", has_text="live").locator(".u-value")
    before = live.inner_text()
    expect(live).not_to_have_text(before)
    expect(hidden).to_have_count(1)
    assert page.evaluate("window.sameDocument")
