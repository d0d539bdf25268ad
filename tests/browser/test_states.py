# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Pages where there is nothing yet, where something is still to come or fails, and where the agent has gone."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.axe import violations
from tests.browser.site import PATIENCE_MS, Site, Visitor, drawn, no_overflow, says, until
from tests.integration.agents import acts
from tests.integration.support import PLAY, Ugro
from tests.ports import free_port

pytestmark = [pytest.mark.slow]
Visit = Callable[..., Visitor]
EMPTY = {
    "/": "No job runs",
    "/experiments": "No experiments yet",
    "/experiments?q=nothing": "No experiment fits",
    "/compare": "Nothing to compare yet",
    "/queue": "No job waits",
    "/health": "What the agent finds of each node",
    "/events?kind=nothing": "No event",
    "/launch": "Launch a job",
}
NODES = "ugro_nodes:\n  hosts:\n    here: {ansible_connection: local, ansible_host: 127.0.0.1, ugro_role: master}\n"


class Alone:
    """An agent on this machine alone, with no job at first, that is ended and started again."""

    def __init__(self, folder: Path) -> None:
        self.inventory = folder / "hosts.yml"
        self.inventory.write_text(NODES)
        self.ugro = Ugro(folder / "h", folder / "data", self.inventory)
        self.ugro.home.mkdir()
        self.site = Site(self.ugro, free_port())
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        process = self.process = self.ugro.start("agent", "--dashboard", str(self.site.port))
        until(lambda: acts(self.ugro, process) and self.site.client.socket.exists(), "the agent listens")  # type: ignore[arg-type]

    def end(self, *, kill: bool = False) -> None:
        assert self.process is not None
        self.process.kill() if kill else self.process.terminate()
        self.process.communicate(timeout=PATIENCE_MS / 1000)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alone]:
    made = Alone(tmp_path_factory.mktemp("a"))
    made.start()
    yield made
    made.ugro.close()


def test_where_there_is_nothing_pages_say_what_to_do(alone: Alone, browser: Browser) -> None:
    visitor = Visitor(browser, alone.site, viewport={"width": 360, "height": 780})
    found = []
    for path, text in EMPTY.items():
        page = visitor.go(path)
        says(page, text)
        no_overflow(page)
        found += [f"{path}: {line}" for line in violations(page)]
    assert not found, "\n".join(found)
    page = visitor.go("/queue")
    expect(page.locator("#live-state")).to_have_text("Live")
    # The first one comes by itself.
    alone.ugro.run("launch", "--detach", "--hold", "--name", "first", "--script", PLAY, "--", "wait")
    expect(page.locator("#queued-first")).to_be_visible()
    page = visitor.go("/experiments/first")
    for text in ("No metrics yet", "No logs yet", "No ranks yet"):
        says(page, text)
    assert not violations(page)
    visitor.close()


@pytest.mark.parametrize("kill", [False, True])
def test_an_agent_that_goes_is_told_and_comes_back(alone: Alone, browser: Browser, kill: bool) -> None:
    name = f"held-{kill}".lower()
    alone.ugro.run("launch", "--detach", "--hold", "--name", name, "--script", PLAY, "--", "wait")
    visitor = Visitor(browser, alone.site)
    # Four at once: a browser has six connections to a host, and each page that is looked at takes one.
    pages: dict[str, Page] = {}
    for path in ("/", "/queue", "/events" if kill else "/health", f"/experiments/{name}"):
        pages[path] = visitor.context.new_page() if pages else visitor.page
        pages[path].goto(path)
        expect(pages[path].locator("#live-state")).to_have_text("Live")
    alone.end(kill=kill)
    for page in pages.values():
        expect(page.locator("#live-state")).to_have_text("Not connected: tries again")
    queue = pages["/queue"]
    queue.locator(f"#queued-{name}").get_by_role("button", name="Release").click()
    expect(queue.get_by_role("alert")).to_contain_text("The dashboard does not answer")
    alone.start()
    for page in pages.values():
        expect(page.locator("#live-state")).to_have_text("Live")
    # Nobody has to sign in again, and forms of pages that were open are still good.
    queue.locator(f"#queued-{name}").get_by_role("button", name="Cancel").click()
    expect(queue.locator(f"#queued-{name}")).to_have_count(0)
    expect(queue.locator("#notices")).to_contain_text(f"Job {name} was cancelled.")
    expect(pages[f"/experiments/{name}"].locator("[data-part=facts]")).to_contain_text("stopped")
    visitor.trouble.clear()  # that nobody answered is what the browser says too
    visitor.close()


@pytest.mark.lab
def test_what_is_still_to_come_and_what_fails(full: Site, visit: Visit) -> None:
    visitor = visit()
    page = visitor.page
    held: list[Route] = []
    for asked in ("**/experiments/live/charts?*", "**/experiments/live/bottlenecks*"):
        page.route(asked, lambda route: held.append(route))
    page.goto("/experiments/live")
    until(lambda: page.evaluate("1") and held, "the page asks for its charts")
    # What was drawn on the server is there meanwhile, and a way on where nothing is yet.
    expect(page.locator("[data-charts] svg[role=img]")).to_be_visible()
    expect(page.get_by_role("link", name="Where the time of a step goes")).to_be_attached()
    expect(page.locator("[data-charts-error]")).to_be_hidden()
    for route in held:
        route.fulfill(status=503, body="away")
    expect(page.locator("[data-charts-error]")).to_contain_text("The charts could not be read: the server answered 503")
    assert not violations(page)
    page.unroute_all(behavior="ignoreErrors")
    drawn(page, "[data-charts] canvas")  # with the next step
    expect(page.locator("[data-charts-error]")).to_be_hidden()
    page.route("**/compare/chart?*", lambda route: route.abort())
    page.goto("/compare?job=live&job=done")
    page.get_by_label("log scale").check()
    expect(page.locator("[data-charts-error]")).to_be_visible()
    expect(page.locator("[data-compare-chart] svg[role=img], [data-compare-chart] canvas").first).to_be_visible()
    page.unroute_all(behavior="ignoreErrors")
    page.get_by_label("log scale").uncheck()
    drawn(page, "[data-compare-chart] canvas")
    expect(page.locator("[data-charts-error]")).to_be_hidden()
    visitor.trouble.clear()
