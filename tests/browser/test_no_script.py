# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The dashboard with JavaScript switched off: every page is whole, and every action is a plain form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.site import PAGES, Site, Visitor, no_overflow, says

pytestmark = [pytest.mark.lab, pytest.mark.slow]
Visit = Callable[..., Visitor]
SLEEPS = "import sys, time\nprint('it runs', sys.argv[1:], flush=True)\ntime.sleep(3600)\n"


@pytest.fixture
def plain(full: Site, visit: Visit) -> Iterator[Visitor]:
    """A browser without scripts; what was launched with it is stopped."""
    yield visit(java_script_enabled=False)
    for job in full.ugro.jobs():
        if job.active and job.name.startswith("plain"):
            full.ugro.run("stop", job.name, "--force")


def until_it_says(page: Page, text: str) -> None:
    """Load a page again and again, as one does who has no script, until a text is on it."""
    for _ in range(300):
        if text in page.locator("main").inner_text():
            return
        page.wait_for_timeout(300)
        page.reload()
    raise AssertionError(f"{page.url} never says {text!r}")


def test_every_page_can_be_read(plain: Visitor) -> None:
    for path, text in PAGES.items():
        page = plain.go(path)
        says(page, text)
        expect(page.locator("noscript")).to_have_count(2 if path in ("/experiments", "/experiments/live") else 1)
        no_overflow(page)
    page = plain.go("/experiments/live")
    expect(page.locator(".chart svg[role=img]").first).to_be_visible()
    expect(page.locator("tr", has_text="gpu-master").first).to_be_visible()
    page.get_by_role("link", name="Where the time of a step goes").click()
    expect(page.get_by_role("heading", name="Bottlenecks of live")).to_be_visible()
    page = plain.go("/compare?job=live&job=done")
    expect(page.locator(".chart svg[role=img]")).to_be_visible()


def test_what_is_looked_for_is_found(plain: Visitor) -> None:
    page = plain.go("/events")
    page.locator("#job").fill("done")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("tbody tr").first).to_contain_text("done")
    assert "live" not in page.locator("tbody").inner_text()

    page = plain.go("/experiments")
    page.locator("#q").fill("wait")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("table.experiments tbody tr")).to_have_count(1)
    page.get_by_role("link", name="Clear").click()
    page.get_by_role("link", name="Steps").click()
    expect(page.locator("th[aria-sort]")).to_contain_text("Steps")
    page.get_by_label("Choose done").check()
    page.get_by_role("button", name="Keep the chosen").click()
    page.wait_for_url("**/experiments?*job=done*")
    page.get_by_role("link", name="Created").click()  # what is kept goes along
    page.wait_for_url(lambda url: "sort=" not in url and "job=done" in url)
    expect(page.get_by_label("Choose done")).to_be_checked()
    page.get_by_label("Choose live").check()
    page.get_by_role("button", name="Compare the chosen").click()
    says(page, "final loss")
    page.locator("#by").select_option("time")
    page.get_by_label("log scale").check()
    page.get_by_role("button", name="Draw").click()
    assert "by=time" in page.url and "log=on" in page.url
    page.get_by_role("link", name="Leave out done").click()
    says(page, "live")
    assert "job=done" not in page.url
    page.locator("#add").fill("done")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator(".chosen-runs").first).to_contain_text("done")

    page = plain.go("/experiments/live")
    page.locator("#log-rank").select_option("1")
    page.get_by_role("button", name="Show").first.click()
    expect(page.locator("#log-rank")).to_have_value("1")
    page.locator("#log-search").fill("step 2 ")
    page.get_by_role("button", name="Search").click()
    says(page, "1 line with “step 2")
    page.locator("a.log-rank").first.click()
    expect(page.locator(".log")).to_contain_text("step 2 ")
    page = plain.go("/experiments/done/artifacts")
    with page.expect_download() as started:
        page.get_by_role("link", name="metrics.jsonl", exact=True).click()
    assert started.value.path().stat().st_size > 100


def test_a_job_from_the_form_to_its_end_and_again(full: Site, plain: Visitor) -> None:
    page = plain.go("/launch")
    page.locator("#name").fill("plain")
    page.locator("#nodes").fill("1")
    page.locator("summary", has_text="script").first.click()
    page.locator("#code").fill(SLEEPS)
    page.get_by_label("Hold it in the queue").check()
    page.get_by_role("button", name="Launch").click()
    page.wait_for_url("**/experiments/plain*")
    page.get_by_role("button", name="Release").click()
    says(page, "Job plain was released.")
    until_it_says(page, "it runs")
    page.locator("#note").fill("first\nsecond")
    page.get_by_role("button", name="Save note").click()
    expect(page.get_by_text("The note of job plain was kept.")).to_be_in_viewport()
    expect(page.locator("#note")).to_have_value("first\nsecond")
    page.locator("#tags").fill("bare")
    page.get_by_role("button", name="Save tags").click()
    expect(page.get_by_text("Job plain has the tags bare.")).to_be_in_viewport()
    page = plain.go("/")
    page.get_by_role("button", name="Stop job plain").click()
    says(page, "Job plain is being stopped.")
    full.ugro.wait_for("plain", "stopped")
    page = plain.go("/experiments/plain")
    page.get_by_role("button", name="Resume").click()
    says(page, "Job plain is in the queue again.")
    full.ugro.wait_for("plain", "running")
    page = plain.go("/experiments/plain")
    page.locator("#confirm-stop summary").click()
    page.get_by_role("button", name="Yes, stop it").click()
    full.ugro.wait_for("plain", "stopped")
    page = plain.go("/experiments/plain")
    page.locator("#confirm-rerun summary").click()
    page.get_by_role("button", name="Yes, run it again").click()
    says(page, "with the request and the code of plain.")
    again = page.url.rpartition("/")[2].partition("?")[0]
    assert again != "plain" and full.ugro.job(again).active
    full.ugro.run("stop", again, "--force")


@pytest.mark.parametrize("scripts", [False, True])
def test_files_are_checked_and_launched(
    full: Site, plain: Visitor, visit: Visit, tmp_path: Path, scripts: bool
) -> None:
    name = f"plain-files-{scripts}".lower()
    script, beside = tmp_path / "main.py", tmp_path / "beside.py"
    secret = "import os\nprint('it has', beside.NUMBER, len(os.environ['KEY']), flush=True)\n"
    script.write_text("import beside, time\n" + secret + "time.sleep(3600)\n")
    beside.write_text("NUMBER = 4711\n")
    page = (visit() if scripts else plain).go("/launch")

    def fill() -> None:
        while (more := page.locator("main details:not([open]) > summary")).count():
            more.first.click()
        page.locator("#script").set_input_files(script)
        page.locator("#files").set_input_files([beside])
        page.locator("#secrets").fill("KEY=hush-hush")

    page.locator("#name").fill(name)
    page.locator("#nodes").fill("1")
    fill()
    page.get_by_role("button", name="Check").click()
    says(page, "torchrun")
    says(page, "gpu2")
    assert full.ugro.job_or_none(name) is None, "a check launches nothing"
    expect(page.locator("#name")).to_have_value(name)
    if not scripts:  # a page that is loaded anew has no files any more, and secrets are not shown again
        assert "hush-hush" not in page.content()
        fill()
    page.get_by_role("button", name="Launch", exact=True).click()
    page.wait_for_url(f"**/experiments/{name}*")
    until_it_says(page, "it has 4711 9")
    assert "hush-hush" not in page.content()
    full.ugro.run("stop", name, "--force")


def test_the_queue_and_the_nodes_are_changed(full: Site, plain: Visitor) -> None:
    for name in ("plain-1", "plain-2"):
        full.launch(name, "--nodes", "3", "--priority", "20")
    page = plain.go("/queue")
    line = page.locator("#queued-plain-2")
    line.get_by_role("button", name="Hold").click()
    says(page, "Job plain-2 is held.")
    line.get_by_role("button", name="Release").click()
    says(page, "Job plain-2 was released.")

    def order() -> list[str]:
        return [job["job"] for job in full.client.get("/v1/queue") if job["job"].startswith("plain-")]

    for where, wanted in (("First", ["plain-2", "plain-1"]), ("Last", ["plain-1", "plain-2"])):
        line.locator("summary").click()
        line.get_by_role("button", name=where).click()
        says(page, f"Job plain-2 was moved {where.lower()}")
        assert order() == wanted
    line.locator("summary").click()
    line.locator("input[name=priority]").fill("73")
    line.get_by_role("button", name="Set priority").click()
    says(page, "Job plain-2 has priority 73.")
    expect(line.locator("[data-label=Priority]")).to_have_text("73")
    for name in ("plain-1", "plain-2"):
        page.locator(f"#queued-{name}").get_by_role("button", name="Cancel").click()
        says(page, f"Job {name} was cancelled.")
    page = plain.go("/health")
    page.locator("#health-gpu2 input[name=reason]").fill("new fan")
    page.locator("#health-gpu2").get_by_role("button", name="Drain").click()
    says(page, "Node gpu2 gets no new jobs.")
    page.locator("#health-gpu2").get_by_role("button", name="Let jobs on again").click()
    says(page, "Node gpu2 gets jobs again.")


def test_wrong_forms_come_back_and_one_signs_out(full: Site, plain: Visitor) -> None:
    page = plain.go("/launch")
    page.locator("#name").fill("plain-wrong")
    while (more := page.locator("main details:not([open]) > summary")).count():
        more.first.click()
    page.locator("#time_limit").fill("soon")
    page.get_by_role("button", name="Launch").click()
    expect(page.locator("[role=alert]").first).to_contain_text("soon")
    expect(page.locator("#name")).to_have_value("plain-wrong")
    assert full.ugro.job_or_none("plain-wrong") is None
    before = page.locator("html").get_attribute("data-theme")
    page.locator("#theme-form button").click()
    expect(page.locator("html")).not_to_have_attribute("data-theme", str(before))
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.goto("/queue")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
