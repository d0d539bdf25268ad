# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Looking at experiments in Chromium: curves that grow, logs that come, lists that are searched, runs compared."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.site import Site, Visitor, drawn, says, until

pytestmark = [pytest.mark.lab, pytest.mark.slow]


@pytest.fixture(autouse=True)
def ready(site: Site) -> None:
    """Two ranks have printed, and there is a job that has ended."""
    site.printed("live", "step 3 ", 0, 1)
    site.ugro.wait_for("done", "completed")


def test_a_running_experiment_is_live(page: Page) -> None:
    page.goto("/experiments/live")
    for title in ("Training loss", "Throughput of a rank", "Learning rate", "Gradient norm", "GPU utilisation",
                  "GPU memory"):  # fmt: skip
        card = page.locator("figure", has=page.locator("figcaption", has_text=title)).first
        expect(card.locator("canvas")).to_be_visible()
    drawn(page, "[data-charts] canvas")
    page.locator("#nodes").scroll_into_view_if_needed()
    drawn(page, "[data-samples] canvas")
    # More and more: the step in the facts, the lines of the log, the ranks.
    step = page.locator("[data-part=facts]").inner_text()
    last = page.locator(".log .log-line").last
    line = last.inner_text()
    page.wait_for_function(
        "before => document.querySelector('[data-part=facts]').innerText !== before", arg=step, polling=100
    )
    page.wait_for_function(
        "before => [...document.querySelectorAll('.log .log-line')].at(-1).innerText !== before", arg=line, polling=100
    )
    expect(page.locator("[data-part=ranks] tbody tr")).to_have_count(2)
    expect(page.locator("[data-part=facts]")).to_contain_text("Time left")


def test_the_greatest_numbers_there_are_have_a_curve(page: Page) -> None:
    page.goto("/experiments/done")
    figure = page.locator("figure", has=page.locator("figcaption", has_text="huge")).first
    expect(figure.locator(".u-legend")).to_contain_text("-1.50e+308")
    # The curve itself, between its axes: it goes from bottom to top and back, step by step.
    share = figure.locator("canvas").evaluate(
        """canvas => {
        const marker = [...canvas.closest('.chart').querySelectorAll('.u-marker')].at(-1);
        const [red, green, blue] = getComputedStyle(marker).borderTopColor
            .match(/[0-9.]+/g).map(Number);
        const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        const rows = new Set();
        for (let at = 0; at < data.length; at += 4)
            if (data[at + 3] > 200 && Math.abs(data[at] - red) + Math.abs(data[at + 1] - green)
                + Math.abs(data[at + 2] - blue) < 30) rows.add(Math.floor(at / 4 / canvas.width));
        return rows.size / canvas.height; }"""
    )
    assert share > 0.5, f"on {share:.0%} of the rows"


def test_curves_are_drawn_as_one_wants(page: Page) -> None:
    page.goto("/experiments/live")
    drawn(page, "[data-charts] canvas")
    legend = page.locator("figure", has_text="Training loss").first.locator(".u-legend")
    expect(legend).to_contain_text("mean")
    page.locator("#chart-ranks").select_option("each")
    expect(legend).to_contain_text("rank 0")
    expect(legend).to_contain_text("rank 1")
    page.locator("#chart-by").select_option("time")
    expect(legend).to_contain_text("time")
    slider = page.locator("#chart-smooth")
    slider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    expect(page.locator("[data-smooth]")).to_have_text("0.05")
    page.get_by_label("log loss").check()
    drawn(page, "[data-charts] canvas")
    # The pointer over a chart tells the values there.
    over = page.locator("[data-charts] .u-over").first

    def told() -> object:
        # A chart that was drawn anew meanwhile hears of the pointer when it moves again.
        over.hover(position={"x": 40, "y": 40})
        over.hover(position={"x": 60, "y": 50})
        return re.search(r"rank [01][0-9]", legend.inner_text().replace("\n", "").replace("\t", ""))

    until(told, "the value under the pointer")


def test_logs_are_searched_and_read_back(page: Page) -> None:
    page.goto("/experiments/live")
    page.locator("#log-rank").select_option("1")
    page.get_by_role("button", name="Show").first.click()
    log = page.locator("[data-log] .log")
    expect(log).to_contain_text("step ")
    expect(page.locator("#log-rank")).to_have_value("1")
    page.locator("#log-search").fill("step 2 ")
    page.keyboard.press("Enter")
    expect(page.locator("main [role=status]").first).to_contain_text("1 line with “step 2")
    page.goto("/experiments/live/logs?rank=all")
    for rank in (0, 1):
        expect(page.locator("[data-log] .log-line", has_text=f"rank {rank}").last).to_contain_text("step ")


def test_a_file_is_downloaded_as_it_is(site: Site, page: Page) -> None:
    page.goto("/experiments/done")
    page.locator("#files").scroll_into_view_if_needed()
    with page.expect_download() as started:
        page.locator("a[download][href$='metrics.jsonl']").first.click()
    path = started.value.path()
    assert path.read_bytes() == (site.ugro.folder("done") / "metrics.jsonl").read_bytes()
    assert started.value.suggested_filename == "metrics.jsonl"


def test_experiments_are_found_sorted_and_tagged(site: Site, page: Page) -> None:
    page.goto("/experiments/done")
    page.locator("#tags").fill("first lr:3e-4")
    page.get_by_role("button", name="Save tags").click()
    says(page, "Job done has the tags first, lr:3e-4.")
    page.goto("/experiments")
    rows = page.locator("table.experiments tbody tr")
    expect(rows.filter(has_text="done").locator("svg.spark polyline").first).to_be_attached()
    page.locator("#tag").fill("first")
    page.get_by_role("button", name="Show").click()
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("done")
    page.get_by_role("link", name="Clear").click()
    page.locator("#q").fill("wait")
    page.keyboard.press("Enter")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("waits")
    page.goto("/experiments?status=completed")
    expect(rows.filter(has=page.get_by_role("link", name="live", exact=True))).to_have_count(0)
    page.goto("/experiments?where=steps%3C6&tag=first")  # other tests leave short jobs too
    expect(rows).to_have_count(1)
    page.goto("/experiments")
    page.get_by_role("link", name="Steps").click()
    expect(page.locator("th[aria-sort]")).to_contain_text("Steps")
    order = page.locator("th[aria-sort]").get_attribute("aria-sort")
    page.get_by_role("link", name="Steps").click()
    expect(page.locator("th[aria-sort]")).not_to_have_attribute("aria-sort", str(order))
    page.goto("/experiments?where=steps%3C%3C6")
    expect(page.get_by_role("alert")).to_be_visible()


def test_runs_lie_over_each_other(page: Page) -> None:
    page.goto("/experiments")
    page.get_by_label("Choose live").check()
    page.get_by_label("Choose done").check()
    says(page, "2 chosen")
    page.get_by_role("button", name="Compare the chosen").click()
    drawn(page, "[data-compare-chart] canvas")
    legend = page.locator("[data-compare-chart] .u-legend")
    expect(legend).to_contain_text("live")
    expect(legend).to_contain_text("done")
    page.locator("#by").select_option("time")
    expect(legend).to_contain_text("time")
    page.locator("#smooth").focus()
    page.keyboard.press("End")
    page.get_by_label("log scale").check()
    page.locator("#column").select_option("throughput_tokens_sec")
    expect(page.locator("[data-compare-chart] figcaption")).to_contain_text("Throughput of a rank")
    drawn(page, "[data-compare-chart] canvas")
    page.wait_for_url(lambda url: "column=throughput_tokens_sec" in url and "log=on" in url and "by=time" in url)
    page.reload()
    expect(page.locator("#by")).to_have_value("time")
    expect(page.locator("[data-compare-chart] figcaption")).to_contain_text("Throughput of a rank")
    # The log scale alone is in the address too, and other forms and links keep what was chosen since.
    page.get_by_label("log scale").uncheck()
    page.wait_for_url(lambda url: "log=" not in url)
    page.locator("#smooth").fill("0.5")
    page.wait_for_url(lambda url: "smooth=0.5" in url)
    page.locator("#loss").fill("1.5")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url(lambda url: "loss=1.5" in url)
    for word in ("column=throughput_tokens_sec", "by=time", "smooth=0.5"):
        assert word in page.url and word in str(page.get_by_role("link", name="Leave out done").get_attribute("href"))
    # What differs, and all of it.
    differences = page.locator("section.differences")
    expect(differences.locator("tr.differs:visible").first).to_be_visible()
    only = differences.locator("tr.same:visible")
    expect(only).to_have_count(0)
    page.get_by_label("only differences").uncheck()
    expect(only.first).to_be_visible()
    page.get_by_role("link", name="Leave out done").click()
    expect(page.locator(".chosen-runs").first).not_to_contain_text("done")


def test_the_cluster_and_its_events_are_live(site: Site, page: Page) -> None:
    page.goto("/")
    expect(page.locator("#live-state")).to_have_text("Live")
    row = page.locator("tr", has_text="live").first
    expect(row).to_contain_text("running")
    before = row.inner_text()
    page.wait_for_function(
        "old => [...document.querySelectorAll('tr')].find(row => row.innerText.includes('live')).innerText !== old",
        arg=before, polling=100,
    )  # fmt: skip
    expect(page.locator("#node-gpu1")).to_contain_text("live")

    page.goto("/events?kind=health_note")
    expect(page.locator("tbody")).not_to_contain_text("a new event")
    expect(page.locator("#live-state")).to_have_text("Live")
    with site.ugro.store() as store:
        store.add_event("health_note", "a new event", node="gpu1", severity="warning")
        store.add_event("other_kind", "not asked for", node="gpu1", severity="warning")
    expect(page.locator("tbody tr").first).to_contain_text("a new event")
    expect(page.locator("tbody")).not_to_contain_text("not asked for")
    page.goto("/events?severity=error")
    expect(page.locator("tbody")).not_to_contain_text("a new event")


def test_many_windows_take_turns_and_none_hangs(site: Site, visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    # Turns of a second: a test need not wait for as long as a person.
    visitor.context.add_init_script("const each = setInterval; setInterval = (f, ms) => each(f, Math.min(ms, 1000))")
    windows = [visitor.page, *(visitor.context.new_page() for _ in range(6))]  # a browser has six connections
    for number, window in enumerate(windows):
        window.goto("/experiments/live" if number == 6 else "/queue")
    for window in windows:
        expect(window.locator("#live-state")).to_have_text("Live")
    site.launch("turns", "--nodes", "3", "--hold")
    for window in windows[:-1]:
        says(window, "turns")
    for window in windows:
        expect(window.locator("#live-state")).to_have_text("Waits for its turn: other windows are open")
    for window in windows[3:]:
        window.close()
    for window in windows[:3]:
        expect(window.locator("#live-state")).to_have_text("Live")
    site.ugro.run("stop", "turns")
