# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A page of `ugro plot` in a browser: a job looks the same in each chart, ticks can be told apart, names be read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from ugro_py.paths import JobPaths
from ugro_py.reports import plot
from ugro_py.reports.plot import Looks

DRAWN = """
window.drawn = [];
const draw = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
  drawn.push(text);
  draw.call(this, text, ...rest);
};
"""


def told(job: str, **numbers: float) -> None:
    paths = JobPaths(job)
    paths.root.mkdir(parents=True)
    with paths.metrics.open("w") as stream:
        for step in range(1, 6):
            line = {"attempt": 1, "rank": 0, "step": step, "timestamp": f"2026-01-20T12:00:{step:02}Z"}
            values = {name: number * step for name, number in numbers.items()}
            stream.write(json.dumps({**line, **values}) + "\n")


@pytest.fixture
def page(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    """A page of two charts on a phone; the first job tells nothing of the second chart."""
    monkeypatch.setenv("UGRO_DATA", str(tmp_path / "data"))
    told("first", training_loss=1.234567)
    told("second-job-with-a-long-name", training_loss=2.345678, learning_rate=1.234567e-5)
    plot.write(
        ["first", "second-job-with-a-long-name"],
        ["training_loss", "learning_rate"],
        tmp_path / "x.html",
        Looks(by="time"),
    )
    context = browser.new_context(viewport={"width": 400, "height": 800})
    context.add_init_script(DRAWN)
    found = context.new_page()
    found.goto((tmp_path / "x.html").as_uri())
    found.wait_for_function("drawn.length > 8")
    yield found
    context.close()


def test_a_job_has_one_colour_in_all_charts(page: Page) -> None:
    colours = page.evaluate(
        """[...document.querySelectorAll(".u-series")].map((row) => [row.querySelector(".u-label").textContent,
           getComputedStyle(row.querySelector(".u-marker")).borderColor])"""
    )
    of_second = {colour for name, colour in colours if name.startswith("second")}
    assert len(of_second) == 1 and len({colour for name, colour in colours if name != "hours"}) == 2


def test_ticks_of_a_short_run_and_of_small_numbers_can_be_told_apart(page: Page) -> None:
    ticks = [float(text.replace(",", "")) for text in page.evaluate("drawn") if re.match(r"[\d.]", text)]
    hours, rates = ({tick for tick in ticks if low < tick < high} for low, high in ((1e-4, 2e-3), (0, 1e-4)))
    assert len(hours) >= 3 and len(rates) >= 3
    assert ticks.count(0) <= 4, "one at each axis"


def test_names_in_the_table_can_be_read_on_a_phone(page: Page) -> None:
    heights = page.locator(".scroll tbody tr").evaluate_all("rows => rows.map((row) => row.offsetHeight)")
    assert len(heights) == 3 and max(heights) < 100, "a letter below the other takes 27 lines"
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
