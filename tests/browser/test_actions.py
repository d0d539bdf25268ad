# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Every action of the dashboard by mouse or keyboard in Chromium, and what the cluster did about it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.site import Site, until

pytestmark = [pytest.mark.lab, pytest.mark.slow]
_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def nothing_is_left(site: Site) -> Iterator[None]:
    """What a test started and did not stop would hold the node that other tests need."""
    yield
    for job in site.ugro.jobs():
        if job.active and job.name not in ("live", "waits", "done"):
            site.ugro.run("stop", job.name, "--force")


@pytest.fixture
def waiting(site: Site) -> str:
    """A new job in the queue: it asks for all nodes, of which one runs `live` for ever."""
    name = f"queued-{next(_numbers)}"
    site.launch(name, "--nodes", "3")
    return name


def row(page: Page, job: str) -> str:
    """Return the selector of a job's row on the page Queue."""
    return f"tr:has(a[href='/experiments/{job}'])"


def test_the_queue_is_changed(site: Site, page: Page, waiting: str) -> None:
    page.goto("/queue")
    line = page.locator(row(page, waiting))
    expect(line).to_contain_text("root")
    line.get_by_role("button", name="Hold").click()
    beside = line.locator(".answer")
    expect(beside).to_have_text(f"Job {waiting} is held.")
    expect(line.locator(".status-held")).to_be_visible()
    line.get_by_role("button", name="Release").click()
    expect(beside).to_contain_text("was released")
    expect(line.locator(".status-held")).to_have_count(0)
    expect(beside).to_contain_text("was released")  # the row was made anew
    expect(page.locator("#notices")).to_be_empty()

    line.locator("summary").click()
    line.locator("input[name=priority]").fill("73")
    line.get_by_role("button", name="Set priority").click()
    expect(beside).to_contain_text("has priority 73")
    until(lambda: site.client.get(f"/v1/jobs/{waiting}")["priority"] == 73, "the priority is 73")
    expect(line.locator("[data-label=Priority]")).to_have_text("73")
    expect(line.locator("[data-label=Place]")).to_have_text("1")

    # The agent says when nobody listens any more; a question is asked before a job is thrown away.
    line.get_by_role("button", name="Cancel").click()
    expect(line).to_have_count(0)
    expect(page.locator("#notices")).to_have_text(f"Job {waiting} was cancelled.")  # its row is gone
    assert site.ugro.job(waiting).status == "stopped"


def test_jobs_change_places(site: Site, page: Page) -> None:
    names = [f"place-{next(_numbers)}" for _ in range(2)]
    for name in names:
        site.launch(name, "--nodes", "3", "--hold", "--priority", "20")
    page.goto("/queue")
    second = page.locator(row(page, names[1]))
    second.locator("summary").focus()
    page.keyboard.press("Enter")
    first = second.get_by_role("button", name="First")
    first.focus()
    page.keyboard.press("Enter")
    expect(second.locator(".answer")).to_contain_text(f"Job {names[1]} was moved first")

    def order() -> list[str]:
        return [job["job"] for job in site.client.get("/v1/queue") if job["job"] in names]

    until(lambda: order() == names[::-1], "the second is first")
    for name in names:
        page.goto(f"/experiments/{name}")
        page.locator("#confirm-stop summary").click()
        page.get_by_role("button", name="Yes, cancel it").click()
        until(lambda name=name: site.ugro.job(name).status == "stopped", f"{name} is out of the queue")


def test_a_node_is_drained_and_comes_back(site: Site, page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 500})  # the top of the page is out of sight
    page.goto("/health")
    card = page.locator("#health-gpu2")
    card.locator("input[name=reason]").fill("new fan <b>bold</b>")
    card.get_by_role("button", name="Drain").click()
    expect(card.locator(".answer")).to_have_text("Node gpu2 gets no new jobs.")
    expect(card.locator(".answer")).to_be_in_viewport()
    expect(card).to_contain_text("drained by root: new fan <b>bold</b>")
    assert next(node for node in site.client.get("/v1/nodes") if node["node"] == "gpu2")["drain"]
    page.goto("/")
    expect(page.locator("#node-gpu2")).to_contain_text("drain")
    page.goto("/health")
    card.get_by_role("button", name="Let jobs on again").click()
    expect(card.locator(".answer")).to_have_text("Node gpu2 gets jobs again.")
    expect(card.get_by_role("button", name="Drain")).to_be_visible()
    expect(card.locator(".answer")).to_have_text("Node gpu2 gets jobs again.")  # the card was made anew
    expect(card.locator(".answer")).to_be_in_viewport()


def test_what_a_person_writes_stays(site: Site, page: Page) -> None:
    site.ugro.wait_for("done", "completed")
    page.goto("/experiments/done")
    page.locator("#note").fill("first line\nsecond <script>alert('note')</script>")
    page.get_by_role("button", name="Save note").click()
    beside = page.locator(".answered", has=page.get_by_role("button", name="Save note"))  # the top is far above
    expect(beside.locator(".answer")).to_have_text("The note of job done was kept.")
    page.goto("/experiments/done")
    expect(page.locator("#note")).to_have_value("first line\nsecond <script>alert('note')</script>")
    with site.ugro.store() as store:
        assert store.note("done") == "first line\nsecond <script>alert('note')</script>"
    page.locator("#tags").fill("b<ad")
    page.get_by_role("button", name="Save tags").click()
    beside = page.locator(".answered", has=page.get_by_role("button", name="Save tags"))
    expect(beside.get_by_role("alert")).to_contain_text("b<ad")
    page.locator("#tags").fill("good base/line")
    page.get_by_role("button", name="Save tags").click()
    expect(page.locator("h1 + .tags a")).to_have_text(["base/line", "good"])  # without loading the page again
    page.locator("#tags").fill("")
    page.get_by_role("button", name="Save tags").click()
    expect(page.locator("h1 + .tags")).to_be_hidden()
    page.locator("#tags").fill("b<ad")
    page.get_by_role("button", name="Save tags").click()
    expect(beside.get_by_role("alert")).to_contain_text("b<ad")
    shift = "one => one.querySelector('.answer').getBoundingClientRect().top - one.getBoundingClientRect().top"
    assert abs(beside.evaluate(shift)) < 5
    expect(page.locator("#notices")).to_be_empty()


def test_a_job_from_the_form_to_its_end_and_again(site: Site, page: Page) -> None:
    page.goto("/")
    page.get_by_role("link", name="Launch", exact=True).click()
    page.locator("#name").fill("from-the-form")
    page.locator("#nodes").fill("1")
    page.locator("#gpus").fill("1")
    page.get_by_text("A script of your own instead").click()
    page.locator("#code").fill("import sys, time\nprint('it runs', sys.argv[1], flush=True)\ntime.sleep(3600)\n")
    page.locator("#args").fill("<i>")
    page.get_by_role("button", name="Launch").click()
    page.wait_for_url("**/experiments/from-the-form*")
    expect(page.locator("[data-part=facts]")).to_contain_text("running")
    expect(page.locator(".log").first).to_contain_text("it runs <i>")

    page.locator("#confirm-stop summary").click()
    page.get_by_role("button", name="Yes, stop it").click()
    expect(page.locator(".page-head .answer")).to_contain_text("Job from-the-form is being stopped.")
    expect(page.locator("#confirm-stop .confirm-box")).to_have_count(0)
    expect(page.locator("[data-part=facts]")).to_contain_text("stopped")
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    assert site.ugro.job("from-the-form").status == "stopped"

    page.get_by_role("button", name="Resume").click()
    expect(page.locator("[data-part=facts]")).to_contain_text("running")
    page.goto("/")
    stop = page.get_by_role("button", name="Stop job from-the-form")
    stop.click()
    line = page.locator(row(page, "from-the-form"))
    expect(line.locator(".answer")).to_contain_text("Job from-the-form is being stopped.")
    site.ugro.wait_for("from-the-form", "stopped")

    page.goto("/experiments/from-the-form")
    page.locator("#confirm-rerun summary").click()
    page.get_by_role("button", name="Yes, run it again").click()
    page.wait_for_url(lambda url: "/experiments/" in url and "/from-the-form" not in url)
    again = page.url.rpartition("/")[2].partition("?")[0]
    expect(page.locator("[data-part=facts]")).to_contain_text("running")
    assert site.ugro.job(again).request["args"] == ["<i>"]
    page.locator("#confirm-stop summary").click()
    page.get_by_role("button", name="Yes, stop it").click()
    site.ugro.wait_for(again, "stopped")


def test_a_form_that_is_wrong_comes_back_with_what_was_typed(site: Site, page: Page) -> None:
    page.goto("/launch")
    page.locator("#name").fill("wrong-time")
    page.get_by_text("More options").click()
    page.locator("#time_limit").fill("soon")
    page.get_by_role("button", name="Launch").click()
    expect(page.get_by_role("alert")).to_contain_text("soon")
    expect(page.locator("#name")).to_have_value("wrong-time")
    assert site.ugro.job_or_none("wrong-time") is None
