# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The page of an experiment in Chromium, from before its start until after its end: it is as a reload would show it."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import json

from playwright.sync_api import Browser, Route, expect

from tests.browser.test_signed_out import link, opened
from tests.ports import free_port
from tests.unit.api_server import Serve, start  # noqa: F401 - a fixture
from tests.unit.web_jobs import Job

LAST = "text => document.querySelector('[data-log] .log').lastElementChild?.textContent === text"


def test_all_of_the_page_is_there_when_its_job_ends(browser: Browser, start: Serve) -> None:
    served = start(dashboard=free_port())
    served.agent.store.create_job("later", "ob", {"name": "later", "model": "tiny-llama"})
    with opened(browser, served) as page:
        page.goto(link(served))
        page.goto("/experiments/later")
        expect(page.locator("#live-state")).to_have_text("Live")
        main = page.locator("main")
        for said in ("No files yet", "No capsule yet"):
            expect(main).to_contain_text(said)
        slow = page.locator("section:has(#bottlenecks)")
        page.locator("#bottlenecks").scroll_into_view_if_needed()
        expect(slow).to_contain_text("No metrics yet")
        page.evaluate("window.sameDocument = true")
        page.locator("#log-search").fill("half a wo")
        job = Job(served, "later", new=False)
        attempt = job.start()
        expect(page.locator("#log-rank option")).to_have_text(["0", "1", "all"])
        for step in (1, 2, 3):
            times = {"step_time_s": 0.2, "data_time_s": 0.1, "wait_time_s": 0.05}
            job.step(attempt, step, training_loss=4.0 - step, **times)
        job.paths.config.write_text(json.dumps({"model": "tiny-llama", "seed": 4711}))
        (job.paths.checkpoints / "step_3.pt").write_bytes(b"weights")
        job.end()
        expect(page.locator("#live-state")).to_have_text("Ended")
        expect(page.locator("[data-rest=figures]")).to_contain_text("completed")
        expect(page.locator("[data-rest=files]")).to_contain_text("step_3.pt")
        expect(page.locator("[data-rest=capsule]")).to_contain_text("4711")
        expect(slow.get_by_role("table")).to_be_attached()
        expect(page.locator("#log-search")).to_have_value("half a wo")
        assert page.evaluate("window.sameDocument")


def test_what_cannot_be_read_is_said_where_it_would_be(browser: Browser, start: Serve) -> None:
    served = start(dashboard=free_port())
    job = Job(served)
    job.step(job.start(), 1, training_loss=2.0)
    job.end()
    with opened(browser, served) as page:
        page.goto(link(served))
        away = ("**/first/bottlenecks?*", "**/first/samples?*")

        def refuse(route: Route) -> None:
            route.fulfill(status=503, body="<p>away</p>")

        for path in away:
            page.route(path, refuse)
        page.goto("/experiments/first")
        page.locator("#bottlenecks").scroll_into_view_if_needed()
        slow, nodes = page.locator("section:has(#bottlenecks)"), page.locator("section:has(#nodes)")
        expect(slow.get_by_role("alert")).to_contain_text("could not be read: the server answered 503")
        expect(slow).not_to_contain_text("away")
        page.locator("#nodes").scroll_into_view_if_needed()
        expect(nodes.get_by_role("alert")).to_contain_text("What the nodes measured could not be read")
        expect(nodes.locator("[data-samples-reading]")).to_be_hidden()
        expect(page.locator("[data-charts-error]")).to_be_hidden()  # those were read
        page.unroute_all(behavior="ignoreErrors")
        expect(nodes.get_by_role("alert")).to_be_hidden()  # it is tried again


def test_a_log_that_is_read_further_up_does_not_grow_without_end(browser: Browser, start: Serve) -> None:
    served = start(dashboard=free_port())
    job = Job(served)
    job.start()
    job.log(b"the first line\n")
    with opened(browser, served) as page:
        page.goto(link(served))
        page.goto("/experiments/first")
        box = page.locator("[data-log] .log")
        expect(box).to_contain_text("the first line")
        follow = page.get_by_role("button", name="Follow")
        follow.click()
        expect(follow).to_have_attribute("aria-pressed", "false")
        for flood in range(4):
            job.log(b"".join(b"line %d\n" % number for number in range(flood * 2500, (flood + 1) * 2500)))
            if flood < 2:  # all that fits is there to be read
                page.wait_for_function(LAST, arg=f"line {(flood + 1) * 2500 - 1}")
        expect(page.locator("[data-log-status]")).to_have_text("Newer lines wait: Follow shows them")
        assert page.evaluate("document.querySelector('[data-log] .log').childElementCount") <= 6000
        assert (
            page.evaluate("document.querySelector('[data-log] .log').firstElementChild.textContent") == "the first line"
        )
        follow.click()
        page.wait_for_function(LAST, arg="line 9999")
        expect(page.locator("[data-log-status]")).to_have_text("")
        assert page.evaluate("document.querySelector('[data-log] .log').childElementCount") <= 3001


def test_curves_that_take_a_while_are_said_to_be_read(browser: Browser, start: Serve) -> None:
    served = start(dashboard=free_port())
    job = Job(served)
    attempt = job.start()
    job.step(attempt, 1, training_loss=2.0, learning_rate=0.5)
    job.end()
    with opened(browser, served) as page:
        page.goto(link(served))
        page.goto("/compare?job=first")
        figure = page.locator("[data-compare-chart]")
        expect(figure.locator("canvas")).to_be_visible()
        held: list[Route] = []
        page.route("**/compare/chart?*", lambda route: held.append(route))
        page.locator("#column").select_option("learning_rate")
        expect(figure).to_have_attribute("aria-busy", "true")
        for route in held:
            route.continue_()
        expect(figure.locator("figcaption")).to_have_text("Learning rate")
        expect(figure).not_to_have_attribute("aria-busy", "true")
        page.unroute_all(behavior="ignoreErrors")
