# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The dashboard of a real agent over real hosts, and what a person does with it in Chromium."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright, expect

from tests.integration.support import Ugro, wait_until
from tests.integration.two_users import ASK
from ugro_py.api.client import Client

SCRIPTS = Path(__file__).parent / "scripts"
LIVELY = SCRIPTS / "lively.py"
PATIENCE_MS = 90_000.0
"""How long a page may take to say what is expected: for machines that do ten other things."""
PAGES = {
    "/": "gpu-master",
    "/experiments": "live",
    "/experiments/live": "CPU-gpu-master-0",
    "/experiments/live/logs?rank=all": "step ",
    "/experiments/live/artifacts": "config.json",
    "/compare": "Nothing to compare yet",
    "/compare?job=live&job=done": "final loss",
    "/queue": "waits",
    "/health": "healthy",
    "/events": "pending -> ",
    "/launch": "Launch a job",
}
"""Path of each page, and what is to be read there while the job `live` runs."""
# What a browser says of an answer that a test asked for: that it was refused.
_EXPECTED = re.compile(r"(the server responded with a status of|Response Status Error Code) (400|403|404|409)\b")


def chromium() -> str | None:
    """Return the program, None where this machine has none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def start(playwright: Playwright) -> Browser:
    """Start Chromium; nothing is downloaded, and it runs as root too."""
    program = chromium()
    assert program is not None
    expect.set_options(timeout=PATIENCE_MS)
    return playwright.chromium.launch(
        executable_path=program, timeout=PATIENCE_MS, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
    )


class Site:
    """The dashboard of a running agent.

    Args:
        ugro: the command line of the same store.
        port: where the agent serves the dashboard.
    """

    def __init__(self, ugro: Ugro, port: int) -> None:
        self.ugro, self.port = ugro, port
        self.url = f"http://localhost:{port}"

    @property
    def client(self) -> Client:
        """The agent's API over its socket."""
        return Client(Path(self.ugro.env.get("UGRO_AGENT") or self.ugro.data / "agent.sock"))

    def link(self, uid: int | None = None) -> str:
        """Return a new one-time link, as `ugro dashboard` prints it; of the account `uid` where one is given."""
        if uid is None:
            return str(self.client.post("/v1/dashboard/link")["url"])
        words = json.dumps([str(self.client.socket), "POST", "/v1/dashboard/link", "{}", {}, 1])
        python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
        done = subprocess.run(
            [python, "-I", "-c", ASK, words], user=uid, group=uid, extra_groups=[], cwd="/", text=True,
            capture_output=True, env={"PATH": "/usr/bin:/bin"}, check=True, timeout=PATIENCE_MS / 1000,
        )  # fmt: skip
        return str(json.loads(json.loads(done.stdout)[0][1])["url"])

    def launch(self, name: str, *options: object, mode: str = "", script: Path = LIVELY) -> None:
        """Launch a job in the background and return once it is started or waits."""
        words = ["--", mode] if mode else []
        self.ugro.run("launch", "--detach", "--name", name, "--script", script, *options, *words)

    def printed(self, job: str, text: str, *ranks: int) -> None:
        """Wait until the logs of these ranks hold a text; not all that is in them is UTF-8."""
        paths = [self.ugro.folder(job) / "logs" / f"rank_{rank}.log" for rank in ranks]
        until(
            lambda: all(path.exists() and text.encode() in path.read_bytes() for path in paths),
            f"{text!r} in logs of {job}",
        )


class Visitor:
    """A browser that somebody has signed in with; notes what no page may do: errors, violations, dialogs.

    Args:
        browser: Chromium.
        site: where to go.
        signed_in: with a link of their own.
        uid: of the account that this is; this process's own without one.
        asks: what they answer to the questions of pages: `accept` or `dismiss`; `asked` has the questions.
        options: of the context: `color_scheme`, `viewport`, `java_script_enabled`, …
    """

    def __init__(
        self, browser: Browser, site: Site, *, signed_in: bool = True, uid: int | None = None, asks: str = "accept",
        **options: Any,
    ) -> None:  # fmt: skip
        self.site = site
        self.trouble: list[str] = []
        self.asked: list[str] = []
        self._answer = asks
        self.context: BrowserContext = browser.new_context(base_url=site.url, accept_downloads=True, **options)
        self.context.set_default_timeout(PATIENCE_MS)
        self.context.set_default_navigation_timeout(PATIENCE_MS)
        self.context.on("console", self._console)
        self.context.on(
            "weberror", lambda error: self.trouble.append(f"{error.page and error.page.url}: {error.error}")
        )
        self.context.on("dialog", self._dialog)
        self.page: Page = self.context.new_page()
        if signed_in:
            self.page.goto(site.link(uid))
            expect(self.page.locator("nav")).to_be_visible()

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not _EXPECTED.search(message.text):
            self.trouble.append(f"{message.page and message.page.url}: {message.text}")

    def _dialog(self, dialog: Any) -> None:
        # Asking before something is thrown away is what pages do; what a name or a line makes them say is not.
        if dialog.type != "confirm":
            self.trouble.append(f"a dialog opened: {dialog.type} {dialog.message}")
            dialog.dismiss()
        else:
            self.asked.append(dialog.message)
            getattr(dialog, self._answer)()

    def go(self, path: str) -> Page:
        """Go to a page, which must be one that is found."""
        answer = self.page.goto(path)
        assert answer is not None and answer.ok, f"{path}: {answer and answer.status}"
        return self.page

    def close(self) -> None:
        """Close the browser's windows; fail if a page did what none may."""
        self.context.close()
        assert not self.trouble, "\n".join(self.trouble)


def says(page: Page, text: str) -> None:
    """Wait until the page shows a text."""
    shown = "document.body ? document.body.textContent.replace(/\\s+/g, ' ') : ''"
    try:
        until(lambda: text in page.evaluate(shown), "", 0.1)
    except AssertionError:
        found = page.evaluate("document.querySelector('main')?.innerText || document.body.innerText")
        raise AssertionError(f"{page.url} does not say {text!r}, but:\n{found[:1500]}") from None


def drawn(page: Page, selector: str) -> None:
    """Wait until a canvas is there on which something is painted."""
    script = """selector => [...document.querySelectorAll(selector)].some(canvas => {
        if (!canvas.width || !canvas.height) return false;
        const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        let seen = 0;
        for (let at = 3; at < data.length && seen < 200; at += 4) if (data[at]) seen++;
        return seen >= 200;
    })"""
    page.wait_for_function(script, arg=selector)


def no_overflow(page: Page) -> None:
    """The page is not wider than the window, nor a card on a phone wider than its place."""
    wide = page.evaluate(
        """() => { const width = document.documentElement.clientWidth;
        if (document.scrollingElement.scrollWidth <= innerWidth) return [];
        return [...document.querySelectorAll('body *')].filter(one => {
            for (let box = one.parentElement; box; box = box.parentElement)
                if (box !== document.body && getComputedStyle(box).overflowX !== 'visible') return false;
            return one.getBoundingClientRect().right > width + 1;
        }).slice(0, 5).map(one => one.outerHTML.slice(0, 200)) }"""
    )
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth"), f"{page.url} is too wide: {wide}"
    # Nor are rows that are cards on a phone wider than these: what is cut there, nobody looks for.
    cut = page.evaluate(
        """() => innerWidth > 640 ? [] : [...document.querySelectorAll('.scroll:has(> table.cards)')]
        .filter(box => box.scrollWidth > box.clientWidth).map(box => `${box.ariaLabel}: ${box.scrollWidth} pixels`)"""
    )
    assert not cut, f"{page.url} has cards that are cut: {cut}"


def until(condition: Any, what: str, every_s: float = 0.1) -> Any:
    """Wait for what is not on a page."""
    return wait_until(condition, what, PATIENCE_MS / 1000, every_s)
