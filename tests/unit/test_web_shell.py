# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The dashboard's frame on a real server: headers, libraries, error pages, themes; nothing shown but as text."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import hashlib
import re

import pytest

from tests.unit.api_server import Served
from tests.unit.browser import Browser, hidden, served, start  # noqa: F401 - fixtures
from tests.unit.web_jobs import words
from ugro_py import paths
from ugro_py.cluster import Cluster, Node
from ugro_py.state._health import Check
from ugro_py.web import live
from ugro_py.web.render import MENU, environment

HOSTILE = "<script>alert(1)</script>\r\n\x1b[31m'\"><img src=x onerror=alert(2)> {{ 7*7 }}"


def test_every_answer_says_what_a_browser_may_do(served: Served) -> None:
    browser = Browser(served)
    browser.sign_in()
    for address in ("/", "/queue", "/nope", "/static/app.css", "/v1/jobs", "/login", "/v1/nope"):
        answer = browser.get(address)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff", address
        assert answer.headers["x-frame-options"] == "DENY"
    assert "no-store" in browser.get("/").headers["cache-control"]


def test_so_does_the_page_that_tells_of_a_fault(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(look: object) -> dict[str, str]:
        raise RuntimeError("<b>inside</b>")

    browser = Browser(served)
    browser.sign_in()
    monkeypatch.setitem(live._MAKERS, "queue", broken)
    answer = browser.get("/queue")
    assert answer.status == 500 and "its log says more" in answer.text and "inside</b>" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-frame-options"] == "DENY" and answer.headers["cache-control"] == "no-store"


def test_no_page_has_a_script_or_a_style_in_it(served: Served) -> None:
    browser = Browser(served)
    browser.sign_in()
    for address, _ in (*MENU, ("/launch", ""), ("/nope", "")):
        text = browser.get(address).text
        for tag in re.findall(r"<script[^>]*>(.*?)</script>", text, re.S):
            assert tag.strip() == "", address
        assert "<style" not in text and not re.search(r"\sstyle=", text), address
        assert not re.search(r"\son[a-z]+=", text), address
        for source in re.findall(r"(?:src|href)=\"([^\"]+)\"", text):
            assert source.startswith(("/", "#", "?")) and not source.startswith("//"), source


def test_the_libraries_are_those_that_were_taken_from_npm() -> None:
    folder = paths.web_static() / "vendor"
    said = re.findall(r"^ {4}([0-9a-f]{64})  (\S+)$", (folder / "README.md").read_text(), re.M)
    others = {"README.md", "LICENSE.htmx", "LICENSE.idiomorph", "LICENSE.uplot"}
    assert {name for _, name in said} == {path.name for path in folder.iterdir()} - others
    for digest, name in said:
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name


def test_static_files_are_kept_by_browsers_and_nothing_else_is_served(served: Served) -> None:
    browser = Browser(served)
    page = browser.get("/login").text
    style = re.search(r'href="(/static/app\.css\?v=[0-9a-f]+)"', page)
    assert style and "immutable" in browser.get(style[1]).headers["cache-control"]
    assert browser.get("/static/app.css").headers["cache-control"] == "no-cache"
    for name in ("../render.py", "%2e%2e/render.py", "..%2f..%2fpaths.py", "", "/etc/passwd", "nope.css"):
        assert browser.get(f"/static/{name}").status in (404, 405), name


def test_errors_are_pages_for_browsers_and_values_for_programs(served: Served) -> None:
    browser = Browser(served)
    browser.sign_in()
    page = browser.get("/experiments/nope-there-is-none")
    assert page.status == 404 and page.headers["content-type"].startswith("text/html") and "<nav" in page.text
    part = browser.get("/nope", hx_request="true")
    assert part.status == 404 and "<html" not in part.text and 'role="alert"' in part.text
    plain = browser.get("/v1/jobs/nope")
    assert plain.status == 404 and plain.json()["error"]["what"] == "job 'nope'"
    wrong = browser.get("/events?severity=loud&kind=job_status&node=here")
    assert wrong.status == 400 and "severity 'loud'" in words(wrong.text)
    assert 'value="job_status"' in wrong.text and "<option selected>here" in wrong.text  # to be corrected there
    assert "data-live" not in wrong.text
    later = browser.get("/events?since=later")
    assert later.status == 400 and "is no time" in later.text and "--since" not in later.text  # an option of the verb
    assert browser.get("/events?job=nope").status == 404


def test_head_is_answered_as_get(served: Served) -> None:
    browser = Browser(served)
    browser.sign_in()
    served.agent.store.create_job("one", "ob", {})
    for path in ("/", "/experiments", "/experiments/one", "/experiments/one/logs", "/compare", "/queue", "/health",
                 "/events", "/launch", "/login", "/experiments/none"):  # fmt: skip
        head, page = browser.ask("HEAD", path), browser.get(path)
        assert (head.status, head.headers.get("content-type")) == (page.status, page.headers.get("content-type")), path
        assert head.text == "" and head.status != 405, path
    stranger = Browser(served)
    assert stranger.ask("HEAD", "/queue").headers["location"] == "/login?next=%2Fqueue"
    link = stranger.client.post("/v1/dashboard/link")["path"]
    assert stranger.ask("HEAD", link).status == 200 and not stranger.cookies
    assert stranger.get(link).status == 303 and stranger.cookies
    assert stranger.ask("HEAD", "/live/queue").status == 405


def test_the_theme_is_kept_in_the_browser_and_read_by_the_server(served: Served) -> None:
    browser = Browser(served)
    page = browser.get("/login").text
    assert 'data-theme="auto"' in page
    answer = browser.post("/theme", {"theme": "dark", "csrf": hidden(page, "csrf"), "next": "/login"})
    assert answer.status == 303 and answer.headers["location"] == "/login"
    assert 'data-theme="dark"' in browser.get("/login").text
    browser.cookies["ugro_theme"] = "<b>"
    assert 'data-theme="auto"' in browser.get("/login").text
    wrong = browser.post("/theme", {"theme": "pink", "csrf": hidden(page, "csrf")})
    assert wrong.status == 400


def test_whatever_things_are_called_pages_show_it_as_text(served: Served) -> None:
    store, node = served.agent.store, Node("gpu1", "10.0.0.1", "worker", "ssh")
    served.agent.cluster = Cluster(HOSTILE, (node,), served.agent.cluster.source)
    store.sync_node(node, [], {})
    finding = {"check": HOSTILE, "severity": "critical", "text": HOSTILE, "remedy": f"`{HOSTILE}`", "value": None}
    store.record_checks([Check("gpu1", "10.0.0.1", "degraded", HOSTILE, "critical", 1.0, [finding])])
    store.drain("gpu1", HOSTILE, HOSTILE)
    store.create_job("job", HOSTILE, {"model": HOSTILE, "name": "job"})
    store.create_job("over", "ob", {"script": HOSTILE, "name": "over"})
    store.set_job("over", "failed", HOSTILE, 7)
    browser = Browser(served)
    browser.sign_in()
    pages = ("/", "/queue", "/health", "/events", "/experiments", "/experiments/over", "/launch")
    for address in (*pages, "/events?kind=%3Cscript%3E"):
        answer = browser.get(address)
        assert answer.status == 200, address
        assert "<script>" not in answer.text and "<img src=x" not in answer.text and "\x1b" not in answer.text, address
        assert "49 " not in answer.text.split("<main")[0]
    assert "&lt;script&gt;" in browser.get("/").text and "&lt;script&gt;" in browser.get("/health").text


def test_every_template_can_be_read() -> None:
    for name in environment().list_templates():
        environment().get_template(name)
