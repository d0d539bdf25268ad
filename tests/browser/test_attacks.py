# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What attackers and accidents put on pages, and what other sites and bad readers try, in Chromium."""

from __future__ import annotations

import http.client
import http.server
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.browser.scripts.lively import HOSTILE
from tests.browser.site import LIVELY, Site, Visitor, says
from tests.ports import free_port
from ugro_py.errors import UgroError

pytestmark = [pytest.mark.lab, pytest.mark.slow]
Visit = Callable[..., Visitor]

EVIL = "<img src=x onerror=alert('evil')><script>alert('evil')</script></script></textarea></title>'\"{{7*7}}"
TRICKY = "\u202egnp.exe\u2066 \x1b[31mred\x1b[0m\r\nSet-Cookie: a=b\r\n\x00end"


@pytest.fixture(scope="module")
def evil(site: Site) -> str:
    """A job whose every text that a user may choose is hostile; it has ended."""
    words = [EVIL.replace("\n", " "), "<b>argument</b>"]
    site.ugro.run(
        "launch", "--detach", "--name", "evil", "--nodes", "1", "--script", LIVELY, "--env", f"NAMES={EVIL}", "--",
        "short", *words,
    )  # fmt: skip
    site.ugro.wait_for("evil", "completed")
    with site.ugro.store() as store:
        store.set_note("evil", f"{EVIL}\n{TRICKY}".replace("\x00", ""))
        store.add_event("evil", f"{EVIL} {TRICKY}", job="evil", node="gpu1", severity="warning")
    return "evil"


def executes_nothing(page: Page) -> None:
    """No element was made of a text; what a script of a text would leave is not there."""
    assert page.locator("img[src=x]").count() == 0
    assert page.evaluate("[...document.scripts].filter(one => !one.src).length") == 0


@pytest.mark.parametrize(
    "path",
    [
        "/experiments/evil", "/experiments/evil/logs?rank=0", "/experiments/evil/logs?rank=0&q=%3Cimg",
        "/experiments", "/compare?job=evil&job=done", "/events?job=evil", "/", "/experiments?q=" + quote(EVIL),
        "/experiments?user=" + quote(EVIL), "/compare?job=" + quote(EVIL), "/events?node=" + quote(EVIL),
        "/experiments/" + quote(EVIL, safe=""), "/login?next=" + quote("javascript:alert(1)"),
    ],
)  # fmt: skip
def test_what_users_write_is_text(evil: str, visit: Visit, path: str) -> None:
    visitor = visit()  # its end fails if a dialog opened, or the browser had to stop something
    page = visitor.page
    page.goto(path)
    expect(page.locator("h1")).to_be_visible()
    page.wait_for_load_state("load")
    if "/evil" in path and "logs" not in path:
        expect(page.locator("canvas").first).to_be_visible()
    executes_nothing(page)


def test_a_hostile_log_and_a_hostile_metric_are_shown(evil: str, page: Page) -> None:
    page.goto("/experiments/evil")
    log = page.locator(".log").first
    expect(log).to_contain_text("<img src=x onerror=alert('log')><script>alert('log')</script></script>")
    expect(log).to_contain_text("&lt;b&gt; &amp; 'quotes'")
    shown = log.inner_text()
    assert not [sign for sign in "\x1b\x07\x00\u202e\u2066" if sign in shown], "control signs reach the page"
    expect(page.locator("figcaption", has_text="onerror=alert('metric')")).to_be_visible()
    expect(page.locator("#note")).to_have_value(re.compile("^" + re.escape(EVIL)))
    says(page, "<b>argument</b>")
    page.goto("/events?job=evil")
    says(page, "onerror=alert('evil')")


def test_nothing_of_it_is_lost(site: Site, evil: str, page: Page) -> None:
    log = (site.ugro.folder(evil) / "logs" / "rank_0.log").read_bytes()
    for printed in (HOSTILE.encode(), b"not utf-8: \xff\xfe\n", b"step 5 loss="):
        assert printed in log
    page.goto(f"/experiments/{evil}/artifacts")
    with page.expect_download() as started:
        page.locator("a[download][href$='rank_0.log']").first.click()
    assert started.value.path().read_bytes() == log
    # A line that is none is left out, what is no number in one is null, and all others are there.
    lines = (site.ugro.folder(evil) / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON")) for line in lines]
    assert sorted(row["step"] for row in rows) == [1, 1, 2, 3, 4, 5]
    assert [row["training_loss"] for row in rows].count(None) == 1
    charts = page.evaluate("path => fetch(path).then(answer => answer.json())", f"/experiments/{evil}/charts")
    loss = next(chart for chart in charts["charts"] if chart["column"] == "training_loss")
    assert loss["lines"][0]["x"] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("name", ["<img src=x onerror=alert('name')>", "\x1b[31mred", "../../up", "a\u202eb", "x" * 64])
def test_a_job_cannot_be_called_so(site: Site, page: Page, name: str) -> None:
    page.goto("/launch")
    page.locator("#name").evaluate("field => { field.removeAttribute('pattern'); field.removeAttribute('maxlength') }")
    page.locator("#name").fill(name)
    page.get_by_role("button", name="Launch").click()
    expect(page.get_by_role("alert").first).to_be_visible()
    executes_nothing(page)
    with pytest.raises(UgroError):
        site.client.submit({"name": name + "\r\nSet-Cookie: a=b", "hold": True})
    assert not [job.name for job in site.ugro.jobs() if name[:10] in job.name]


@pytest.mark.parametrize("token", ["", "guess", "0" * 64])
def test_a_form_with_a_wrong_token_changes_nothing(site: Site, page: Page, token: str) -> None:
    page.goto("/experiments/live")
    expect(page.locator("#live-state")).to_have_text("Live")
    with page.expect_navigation() as went:
        page.evaluate(
            """token => { const form = document.querySelector('#confirm-stop form');
            form.querySelector('[name=csrf]').value = token; form.submit(); }""",
            token,
        )
    assert went.value is not None and went.value.status == 403
    assert not site.ugro.job("live").stop_requested


def test_downloads_stay_in_the_folder_of_the_job(site: Site, visit: Visit) -> None:
    cookie = "; ".join(f"{one['name']}={one['value']}" for one in visit().context.cookies())
    tries = ("../../done/config.json", "../../../ugro.db", "%2e%2e/%2e%2e/%2e%2e/ugro.db", "..%2f..%2f..%2fugro.db",
             "logs/../../../../ugro.db", "//etc/passwd", "%2fetc%2fpasswd", "..%5c..%5cugro.db", "logs%00/rank_0.log",
             "%252e%252e/%252e%252e/ugro.db", "....//....//ugro.db")  # fmt: skip
    for path in tries:
        connection = http.client.HTTPConnection(
            "localhost", site.port, timeout=60
        )  # asks exactly so, as no browser does
        connection.request("GET", f"/experiments/live/artifacts/{path}", headers={"Cookie": cookie})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        assert answer.status in (307, 400, 404, 422), f"{path}: {answer.status}"
        assert b"SQLite format" not in text and b"root:x:" not in text and b'"job' not in text


def test_a_line_of_ten_megabytes_is_cut_and_holds_nothing_up(site: Site, page: Page) -> None:
    site.printed("live", "after the long line", 0)
    page.goto("/experiments/live/logs?rank=0&q=the+long+line")
    says(page, "after the long line")
    page.goto("/experiments/live/logs?rank=0")
    assert page.evaluate("document.documentElement.outerHTML.length") < 2_000_000
    page.goto("/experiments/live")
    expect(page.locator(".log-line").last).to_contain_text("step ")
    page.goto("/experiments/live/logs?rank=0&after=0")
    expect(page.locator(".log")).to_contain_text("rank 0 of 2 begins")
    page.get_by_role("link", name="Newer lines").click()
    expect(page.locator(".log-cut").first).to_contain_text("bytes more")


FOREIGN = """<!doctype html><title>elsewhere</title><h1>elsewhere</h1>
<form id=post method=post action="{there}/experiments/live/stop"><input name=csrf value=guess></form>
<form id=plain method=post action="{there}/experiments/live/stop" enctype="text/plain"><input name=csrf value=x></form>
<form id=api method=post action="{there}/v1/jobs/live/stop"></form>
<iframe src="{there}/"></iframe>
<script>
async function read(path, options) {{
  try {{ const answer = await fetch("{there}" + path, {{credentials: "include", ...options}});
         return answer.type === "opaque" ? "opaque" : answer.status + " " + (await answer.text()).slice(0, 80); }}
  catch (error) {{ return "refused"; }}
}}
</script>"""


@pytest.fixture
def elsewhere(site: Site) -> Iterator[str]:
    """A page of another origin: the same host, so that the browser sends its cookies, at another port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(FOREIGN.format(there=site.url).encode())

        def log_message(self, *_arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://localhost:{server.server_address[1]}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_another_site_can_neither_act_nor_read(site: Site, visit: Visit, elsewhere: str) -> None:
    visitor = visit()
    page = visitor.page
    for form in ("post", "plain", "api"):
        page.goto(elsewhere)
        with page.expect_navigation():
            page.evaluate("form => document.getElementById(form).submit()", form)
        assert page.url.startswith(site.url)
        text = page.locator("body").inner_text()
        assert "pages of other sites may not" in text, text
    page.goto(elsewhere)
    for method, path in (("GET", "/v1/jobs"), ("GET", "/experiments/live"), ("POST", "/experiments/live/stop"),
                         ("POST", "/v1/jobs/live/stop"), ("DELETE", "/v1/jobs/live")):  # fmt: skip
        said = page.evaluate("([path, method]) => read(path, {method})", [path, method])
        assert said == "refused", f"{method} {path}: {said}"
        body = {"method": method, "mode": "no-cors"} | ({"body": "csrf=guess"} if method == "POST" else {})
        if method in ("GET", "POST"):
            assert page.evaluate("([path, options]) => read(path, options)", [path, body]) in ("refused", "opaque")
    frame = page.frames[-1]
    assert frame.url.startswith("chrome-error:") or "gpu-master" not in frame.locator("body").inner_text()
    job = site.ugro.job("live")
    assert job.status == "running" and not job.stop_requested, "somebody else's page stopped a job"
    # The browser says in the console what it refused; that was the test.
    visitor.trouble.clear()


def test_a_link_from_another_site_signs_nobody_in(site: Site, visit: Visit, elsewhere: str) -> None:
    visitor = visit(signed_in=False)
    page = visitor.page
    page.goto(elsewhere)
    with page.expect_navigation():
        page.evaluate("link => { location.href = link }", site.link())
    says(page, "a page of another site led here; open the link yourself")
    assert visitor.context.cookies(site.url) == []
    visitor.trouble.clear()


def test_readers_that_take_nothing_hold_up_nobody(site: Site, visit: Visit) -> None:
    visitor = visit()
    cookie = "; ".join(f"{one['name']}={one['value']}" for one in visitor.context.cookies())
    slow = []
    streams = ("/v1/events/stream", "/experiments/live/live?rank=all", "/v1/jobs/live/logs?rank=0", "/v1/jobs")
    for number in range(40):
        path = streams[number % len(streams)]
        reader = socket.socket()
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        reader.connect(("127.0.0.1", site.port))
        head = f"GET {path} HTTP/1.1\r\nHost: localhost:{site.port}\r\nCookie: {cookie}\r\n\r\n"
        reader.sendall(head.encode() if number % 5 else head.encode()[:20])  # some do not even ask to the end
        slow.append(reader)
    try:
        for _ in range(3):
            for reader in slow:
                reader.setblocking(False)
                try:
                    reader.recv(1)
                except BlockingIOError:
                    pass
            for path, text in (("/", "live"), ("/experiments/live", "rank 0"), ("/events", "pending")):
                says(visitor.go(path), text)
            time.sleep(0.1)
        site.printed("live", "step ", 0)
        assert json.loads(json.dumps(site.client.get("/v1/jobs/live")))["status"] == "running"
    finally:
        for reader in slow:
            reader.close()


def test_it_is_asked_for_by_its_own_name_alone(site: Site) -> None:
    """What a name of an attacker's that leads here (DNS rebinding) gets."""
    for host in ("evil.example", f"evil.example:{site.port}", "169.254.169.254", "localhost.evil.example"):
        with socket.create_connection(("127.0.0.1", site.port)) as connection:
            connection.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda c=connection: c.recv(65536), b""))
        assert answer.split(b" ", 2)[1] in (b"400", b"403", b"421"), answer[:200]


def test_the_port_is_this_machine_s_alone(site: Site) -> None:
    assert free_port() != site.port
    with pytest.raises(OSError):
        socket.create_connection((_other_address(), site.port), timeout=5).close()


def _other_address() -> str:
    """Return an address of this machine that is not its loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])
