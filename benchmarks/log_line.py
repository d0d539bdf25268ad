"""How long a line that a rank prints takes to the page of its experiment: from `print` on a node to text in Chromium.

The clock is one: the hosts of the lab are this machine. The page notes when each line is in the document.
"""

from __future__ import annotations

import statistics
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.agent_idle import running_agent
from benchmarks.bed import SCRIPTS, Bed
from benchmarks.measure import Figure
from tests.browser.site import chromium, start
from tests.ports import free_port
from ugro_py.api.client import Client

NAME = "log_line_on_page"
LIMIT_MS = 1000.0
JOB = "prints"
_WATCH = """
window.took = [];
new MutationObserver(changes => {
  for (const change of changes) for (const node of change.addedNodes) {
    const found = /^(?:rank [0-9]+)?now ([0-9.]+)$/.exec(node.textContent.trim());
    if (found && node.classList.contains("log-line") && !node.classList.contains("log-partial"))
      window.took.push(Date.now() - 1000 * Number(found[1]));
  }
}).observe(document.querySelector(".log"), {childList: true});
"""


def measure(bed: Bed, n: int = 40) -> list[Figure]:
    """Watch `n` lines of each of two ranks; the median counts, in milliseconds."""
    if chromium() is None:
        print(f"{NAME}: skipped: no Chromium (Debian: apt-get install chromium)", flush=True)
        return []
    from playwright.sync_api import sync_playwright

    port = free_port()
    with running_agent(bed, "--dashboard", str(port)), job(bed, 60 + n), sync_playwright() as playwright:
        browser = start(playwright)
        page = browser.new_page()
        page.goto(link(bed))
        page.goto(f"http://localhost:{port}/experiments/{JOB}?rank=all")
        page.wait_for_selector(".log .log-line", timeout=60_000)
        page.evaluate(_WATCH)
        for _ in range(10 * (60 + n)):
            page.wait_for_timeout(100)
            if page.evaluate("window.took.length") >= 2 * n:
                break
        took = page.evaluate("window.took")
        browser.close()
    if len(took) < n:
        raise RuntimeError(f"only {len(took)} lines came to the page")
    return [Figure(NAME, "ms (median)", [statistics.median(took)], LIMIT_MS)]


@contextmanager
def job(bed: Bed, seconds: float) -> Iterator[None]:
    """Run a job that prints, on two nodes, until the end of the block."""
    bed.ugro(
        "launch", "--detach", "--name", JOB, "--nodes", "2", "--script", str(SCRIPTS / "prints.py"), "--", str(seconds)
    )
    try:
        yield
    finally:
        bed.ugro("stop", JOB, "--force")


def link(bed: Bed) -> str:
    """Return a one-time link to the dashboard of the agent that runs."""
    return str(Client(bed.home / "data" / "agent.sock").post("/v1/dashboard/link")["url"])


def signed_in(bed: Bed) -> urllib.request.OpenerDirector:
    """Return what asks with the cookie of a session."""
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    opener.open(link(bed), timeout=60).read()
    return opener
