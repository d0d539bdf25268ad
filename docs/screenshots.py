"""Take the screenshots of docs/dashboard-tour.md: the real dashboard over a made-up cluster, in Chromium.

python -m docs.screenshots [PAGE...]      # all pages, or only those named
"""

from __future__ import annotations

import io
import shutil
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docs.demo import demo

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FOLDER = Path(__file__).resolve().parent / "screenshots"
PAGES = {
    "cluster": "/",
    "experiments": "/experiments",
    "experiment": "/experiments/llama-110m-v4",
    "compare": "/compare?job=llama-110m-v1&job=llama-110m-v2&job=llama-110m-v3&job=llama-110m-v4&smooth=0.6",
    "queue": "/queue",
    "health": "/health",
    "events": "/events",
    "launch": "/launch",
}
CHARTS = ("experiment", "compare")
FORMS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 860}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 860}},
    "phone": {
        "color_scheme": "light", "viewport": {"width": 390, "height": 844}, "device_scale_factor": 1.5,
        "is_mobile": True, "has_touch": True,
    },
}  # fmt: skip
TALL = {"light": 1500, "dark": 1500, "phone": 1300}
"""How much of a long page is shown, in CSS pixels."""
COLOURS = 256


def main(names: Sequence[str]) -> None:
    """Write the screenshots of these pages, or of all."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        raise SystemExit("no Chromium here; on Debian: apt-get install chromium")
    FOLDER.mkdir(exist_ok=True)
    with demo(_free_port()) as link, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        state = _signed_in(browser, link)
        for form, options in FORMS.items():
            context = browser.new_context(
                storage_state=state, base_url=link.partition("/login")[0], reduced_motion="reduce", **options
            )
            page = context.new_page()
            for name in names or PAGES:
                _take(page, name, form)
            context.close()
        browser.close()


def _signed_in(browser: Browser, link: str) -> Any:
    context = browser.new_context()
    page = context.new_page()
    page.goto(link)
    state = context.storage_state()
    context.close()
    return state


def _take(page: Page, name: str, form: str) -> None:
    page.goto(PAGES[name])
    if name in CHARTS:
        page.wait_for_selector("canvas", timeout=60_000)
    if name == "launch":
        page.get_by_text("A script of your own").click()
    page.wait_for_timeout(1500)  # what comes over the stream at once
    height = min(TALL[form], page.evaluate("document.documentElement.scrollHeight"))
    width = FORMS[form]["viewport"]["width"]
    raw = page.screenshot(full_page=True, clip={"x": 0, "y": 0, "width": width, "height": height}, timeout=60_000)
    path = FOLDER / f"{name}-{form}.png"
    path.write_bytes(_small(raw))
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB", flush=True)


def _small(raw: bytes) -> bytes:
    """Return a picture in few colours: it shows text and lines, and is to be small.

    What few pixels have (a curve, the border of a button, a dot) keeps its colour; the means bring back large areas.
    """
    from PIL import Image

    every, plain = Image.Quantize.MAXCOVERAGE, Image.Dither.NONE
    image = Image.open(io.BytesIO(raw)).convert("RGB").quantize(COLOURS, method=every, kmeans=3, dither=plain)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def _free_port() -> int:
    with socket.socket(socket.AF_INET6) as probe:
        probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        probe.bind(("::", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main(sys.argv[1:])
