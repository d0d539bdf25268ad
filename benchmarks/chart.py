"""The page of an experiment with a million lines of metrics, in Chromium: when its curves are painted.

- `chart_of_a_million_http`: one curve over the agent's API, from request to the last byte, the columns on disk.
- `chart_painted`: from the click until all curves of the page are drawn: the page, its scripts, the answer, uPlot.

A line is added before each repetition, as a job that runs does, so that no answer is one that was kept.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.bed import Bed
from benchmarks.measure import Figure
from docs.demo import served
from tests.browser.site import chromium, start
from tests.ports import free_port
from ugro_py.api.view import Timing
from ugro_py.cluster import Cluster, Node
from ugro_py.paths import JobPaths
from ugro_py.state import Store

NAME = "chart_painted"
SERVER_LIMIT_MS = 200.0
PAINTED_LIMIT_MS = 1000.0
LINES = int(os.environ.get("UGRO_CHART_LINES", "1000000"))
RANKS = 4
JOB = "million"


class View:
    """What the application needs of an agent: a store with one job."""

    watches = True

    def __init__(self, folder: Path) -> None:
        self.store = Store.open(f"sqlite:///{folder}/ugro.db")
        self.cluster = Cluster("bench", (Node("here", "127.0.0.1", "master", "local"),), folder / "hosts.yml")
        self.store.create_job(JOB, "bench", {"name": JOB, "model": "tiny-llama", "dataset": "python-docs"})
        self.store.set_job(JOB, "running")

    def timings(self) -> dict[str, Timing]:
        """Return nothing: no loop runs."""
        return {}

    def readings(self) -> dict[str, dict[str, Any]]:
        """Return nothing: no node is read."""
        return {}

    def wake(self) -> None:
        """Do nothing."""


def measure(_bed: Bed | None, n: int = 9) -> list[Figure]:
    """Measure `n` repetitions, in milliseconds; only the server's part where there is no Chromium."""
    kept = os.environ.get("UGRO_DATA")
    with tempfile.TemporaryDirectory(prefix="ugro-chart-") as name:
        os.environ["UGRO_DATA"] = name
        try:
            _write(JobPaths(JOB).metrics)
            view = View(Path(name))
            with served(view, Path(name), free_port()) as link:
                figures = _both(link, n)
            view.store.close()
        finally:
            if kept is None:
                os.environ.pop("UGRO_DATA", None)
            else:
                os.environ["UGRO_DATA"] = kept
    return figures


def _both(link: str, n: int) -> list[Figure]:
    base = link.partition("/login")[0]
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    opener.open(link, timeout=60).read()
    address = f"{base}/v1/jobs/{JOB}/series?column=training_loss&by=step&ranks=mean&points=1000"
    opener.open(address, timeout=600).read()  # the columns are written with the lines; here they are written now
    server = []
    for number in range(n):
        _grow(number)
        begun = time.perf_counter()
        answer = json.load(opener.open(address, timeout=60))
        server.append(1e3 * (time.perf_counter() - begun))
        if answer["points"] < LINES // RANKS:
            raise RuntimeError(f"the curve stands for {answer['points']} steps only")
    figures = [Figure("chart_of_a_million_http", "ms", server, SERVER_LIMIT_MS)]
    if chromium() is None:
        print(f"{NAME}: skipped: no Chromium (Debian: apt-get install chromium)", flush=True)
        return figures
    return [*figures, Figure(NAME, "ms (median)", [statistics.median(_painted(base, opener, n))], PAINTED_LIMIT_MS)]


def _painted(base: str, opener: urllib.request.OpenerDirector, n: int) -> list[float]:
    from playwright.sync_api import sync_playwright

    jar = next(handler for handler in opener.handlers if isinstance(handler, urllib.request.HTTPCookieProcessor))
    cookies = [{"name": one.name, "value": one.value or "", "url": base} for one in jar.cookiejar]
    found = []
    with sync_playwright() as playwright:
        browser = start(playwright)
        context = browser.new_context(viewport={"width": 1280, "height": 860})
        context.add_cookies(cookies)  # type: ignore[arg-type]
        page = context.new_page()
        for number in range(-1, n):  # the first fills the browser's cache, as the page before this one does
            _grow(n + 1 + number)
            page.goto(f"{base}/launch")
            page.goto(f"{base}/experiments/{JOB}", wait_until="commit")
            page.wait_for_selector("html[data-painted]", state="attached", timeout=120_000)
            if number >= 0:
                found.append(float(page.evaluate("document.documentElement.dataset.painted")))
        browser.close()
    return found


def _write(path: Path) -> None:
    path.parent.mkdir(parents=True)
    with path.open("w", encoding="ascii") as file:
        for step in range(1, LINES // RANKS + 1):
            loss = 2 + 8 / (1 + step / 2000) + step % 97 * 0.002
            file.writelines(_line(step, rank, loss) for rank in range(RANKS))


def _grow(number: int) -> None:
    with JobPaths(JOB).metrics.open("a", encoding="ascii") as file:
        file.write(_line(LINES // RANKS + 1 + number, 0, 2.0))


def _line(step: int, rank: int, loss: float) -> str:
    return (
        f'{{"timestamp": "2026-01-20T{step // 3600 % 24:02}:{step // 60 % 60:02}:{step % 60:02}Z", "job_id": "{JOB}", '
        f'"attempt": 1, "rank": {rank}, "step": {step}, "gpu_util": {80 + step % 19}, "gpu_mem_used_gb": 9.8, '
        f'"training_loss": {loss:.4f}, "throughput_tokens_sec": {150 + step % 7}, "gradient_norm": '
        f'{1 + step % 13 / 10}, "learning_rate": 0.0003}}\n'
    )
