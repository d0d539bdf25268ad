# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""One lab, one agent with its dashboard, one Chromium for all tests of this folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.site import Site, Visitor, chromium, start, until
from tests.integration.agents import running_agent
from tests.integration.support import Ugro
from tests.lab import Lab
from tests.ports import free_port


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a browser where there is none."""
    if chromium() is None:
        for item in items:
            if "/browser/" in str(item.path):
                item.add_marker(pytest.mark.skip(reason="no Chromium (Debian: apt-get install chromium)"))


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory, lab3: Lab) -> Iterator[Site]:
    """The dashboard of an agent over three hosts with one CPU slot each, where a job called `live` runs on two."""
    port = free_port()
    public = Path(tempfile.mkdtemp(prefix="ugro-browser-"))  # other accounts reach the agent's socket there
    public.chmod(0o755)
    ugro = Ugro(tmp_path_factory.mktemp("b"), tmp_path_factory.mktemp("d") / "data", lab3.inventory_file(), lab3)
    ugro.env_more["UGRO_AGENT"] = str(public / "agent.sock")
    try:
        with running_agent(ugro, "--dashboard", str(port)):
            found = Site(ugro, port)
            until(found.client.socket.exists, "the agent listens")
            found.launch("live", "--nodes", "2", mode="long")
            found.launch("done", "--nodes", "1", mode="short")
            found.launch("waits", "--nodes", "3", "--hold")
            yield found
            ugro.run("stop", "live", "--force")
    finally:
        ugro.close()
        shutil.rmtree(public)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium; with these tests it ends, and with it the event loop that Playwright keeps in this thread."""
    with sync_playwright() as playwright:
        browser = start(playwright)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, site: Site) -> Iterator[Callable[..., Visitor]]:
    """A function that makes a `Visitor`; its options are those of a browser's context."""
    made: list[Visitor] = []

    def make(**options: Any) -> Visitor:
        made.append(Visitor(browser, site, **options))
        return made[-1]

    yield make
    for visitor in made:
        visitor.close()


@pytest.fixture
def page(visit: Callable[..., Visitor]) -> Page:
    """A page of somebody who is signed in."""
    return visit().page


@pytest.fixture
def full(site: Site) -> Site:
    """The site once there is something on each page: lines of two ranks, a job that has ended, one that waits."""
    site.printed("live", "step 3 ", 0, 1)
    site.ugro.wait_for("done", "completed")

    def healthy() -> bool:
        with site.ugro.store() as store:
            return {row.health for row in store.nodes()} == {"healthy"}

    until(healthy, "all nodes are healthy")
    return site
