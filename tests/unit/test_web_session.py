# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Who may enter the dashboard, and that no page of another site can act in it: attacks on a real server."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

from pathlib import Path

import pytest

from tests.ports import free_port
from tests.unit.api_server import Serve, Served
from tests.unit.browser import Browser, hidden, served, start  # noqa: F401 - fixtures
from ugro_py import users
from ugro_py.api.server import Listen
from ugro_py.web.security import local_path

TOKEN = "t" * 24


@pytest.fixture
def browser(served: Served) -> Browser:
    return Browser(served)


def test_nobody_is_known_at_the_port_without_signing_in(browser: Browser) -> None:
    for address in ("/", "/queue", "/events?severity=error", "/experiments", "/launch"):
        answer = browser.get(address)
        assert answer.status == 303 and answer.headers["location"].startswith("/login?next=%2F"), address
    for address in ("/v1/me", "/v1/jobs", "/v1/events/stream", "/metrics"):
        assert browser.get(address).status == 401, address
    assert browser.get("/live/queue", accept="text/event-stream").status == 401
    part = browser.get("/queue", hx_request="true")
    assert part.status == 401 and part.headers["hx-redirect"].startswith("/login")
    answer = browser.post("/nodes/here/drain", {"reason": "new <fan>"})
    assert answer.status == 401 and 'value="new &lt;fan&gt;"' in answer.text and "you are signed out" in answer.text
    answer = browser.post("/nodes/here/drain", {"reason": "new fan"}, origin="", sec_fetch_site="")  # of no page
    assert answer.status == 303 and answer.headers["location"] == "/login?next=%2F"
    answer = browser.post("/nodes/here/drain", {}, hx_request="true")  # what was typed stays on the page
    assert answer.status == 401 and "you are signed out" in answer.text and "hx-redirect" not in answer.headers
    assert browser.get("/", cookie=f"ugro_session_{browser.port}=guess").status == 303


def test_a_link_signs_in_once_and_for_the_account_that_asked(browser: Browser) -> None:
    link = browser.client.post("/v1/dashboard/link")
    assert link["url"] == f"http://localhost:{browser.port}{link['path']}" and link["user"] == users.me().user
    answer = browser.get(link["path"])
    (cookie,) = answer.cookies
    assert answer.status == 303 and answer.headers["location"] == "/"
    assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower() and "Secure" not in cookie
    assert browser.get("/v1/me").json()["user"] == users.me().user and browser.get("/v1/me").json()["door"] == "web"
    again = Browser.__new__(Browser)
    again.port, again.cookies = browser.port, {}
    refused = again.get(link["path"])
    assert refused.status == 403 and "used already" in refused.text and not again.cookies
    assert again.get("/login?once=guess").status == 403
    assert again.get("/login?once=").status == 403


def test_a_link_that_another_site_leads_to_is_not_followed(browser: Browser) -> None:
    path = browser.client.post("/v1/dashboard/link")["path"]
    for site in ("cross-site", "same-site", "same-origin"):
        assert browser.get(path, sec_fetch_site=site).status == 403
    assert browser.get(path, sec_fetch_site="none").status == 303


def test_a_link_on_a_page_of_another_site_opens_a_page_and_nothing_else(browser: Browser) -> None:
    visit = {"sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    link = browser.client.post("/v1/dashboard/link")["path"]
    for site in ("cross-site", "same-site"):
        answer = browser.get("/queue", sec_fetch_site=site, **visit)  # a strict cookie is not sent with it
        assert answer.status == 303 and answer.headers["location"] == "/login?next=%2Fqueue", site
        answer = browser.get("/login?next=%2Fqueue", sec_fetch_site=site, **visit)
        assert answer.status == 200 and 'href="/queue"' in answer.text and "DENY" in answer.headers["x-frame-options"]
        refused = browser.get(link, sec_fetch_site=site, **visit)
        assert refused.status == 403 and "text/html" in refused.headers["content-type"] and not refused.cookies
    browser.sign_in()
    token = hidden(browser.get("/").text, "csrf")
    for site in ("cross-site", "same-site"):
        assert browser.get("/queue", sec_fetch_site=site, **visit).status == 200
        for address in ("/v1/jobs", "/v1/me", "/metrics", "/live/queue", "/static/app.css"):
            assert browser.get(address, sec_fetch_site=site, **visit).status == 403, address
        for other in (
            {"sec_fetch_mode": "navigate", "sec_fetch_dest": "iframe"},
            {"sec_fetch_mode": "no-cors", "sec_fetch_dest": "document"},
            {"sec_fetch_mode": "cors", "sec_fetch_dest": "empty"},
            {"origin": "http://evil.example", **visit},
            {},
        ):
            assert browser.get("/queue", sec_fetch_site=site, **other).status == 403, other
        assert browser.post("/experiments/x/stop", {"csrf": token}, sec_fetch_site=site, **visit).status == 403
    assert browser.get("/queue", sec_fetch_site="cross-site", host="evil.example", **visit).status == 421


def test_a_form_counts_only_from_a_page_of_this_dashboard(browser: Browser, served: Served) -> None:
    browser.sign_in()
    served.agent.store.create_job("mine", users.me().user, {"name": "mine"})
    token = hidden(browser.get("/").text, "csrf")
    ours = f"http://localhost:{browser.port}"
    for wrong in (
        {"origin": "http://evil.example", "sec_fetch_site": "cross-site"},
        {"origin": "http://evil.example", "sec_fetch_site": ""},
        {"origin": "null", "sec_fetch_site": ""},
        {"origin": f"http://localhost:{browser.port + 1}", "sec_fetch_site": "same-site"},
        {"origin": f"http://localhost:{browser.port + 1}", "sec_fetch_site": ""},  # another port is another site
        {"origin": f"https://localhost:{browser.port}", "sec_fetch_site": ""},
        {"origin": "", "sec_fetch_site": ""},
        {"origin": ours, "sec_fetch_site": "same-site"},
    ):
        answer = browser.post("/experiments/mine/hold", {"csrf": token}, **wrong)
        assert answer.status == 403, wrong
    for form in ({}, {"csrf": ""}, {"csrf": "0" * 64}, {"csrf": token[:-1]}):
        assert browser.post("/experiments/mine/hold", form).status == 403, form
    assert browser.post("/experiments/mine/hold", {"csrf": token}, content_type="text/plain").status == 400
    assert browser.post("/experiments/mine/hold", {"csrf": token}, host="evil.example").status == 421
    assert not served.agent.store.job("mine").held
    other = Browser(served)
    other.sign_in()
    theirs = hidden(other.get("/").text, "csrf")
    assert theirs != token and browser.post("/experiments/mine/hold", {"csrf": theirs}).status == 403
    assert not served.agent.store.job("mine").held
    assert browser.post("/experiments/mine/hold", {"csrf": token}).status == 303
    assert served.agent.store.job("mine").held
    assert browser.post("/experiments/mine/release", {}, x_csrf_token=token).status == 303  # as htmx sends it
    assert not served.agent.store.job("mine").held


def test_a_session_reads_the_api_and_changes_nothing_there(browser: Browser, served: Served) -> None:
    browser.sign_in()
    served.agent.store.create_job("mine", users.me().user, {"name": "mine"})
    assert browser.get("/v1/jobs/mine").status == 200 and browser.get("/v1/queue").status == 200
    for method, address in (
        ("POST", "/v1/jobs/mine/hold"), ("POST", "/v1/jobs"), ("POST", "/v1/nodes/here/drain"),
        ("PUT", "/v1/users/ana"), ("PUT", "/v1/jobs/mine/note"), ("POST", "/v1/dashboard/link"),
    ):  # fmt: skip
        body = {"/v1/jobs": '{"request": {"name": "new"}}', "/v1/jobs/mine/note": '{"text": ""}'}.get(address, "{}")
        answer = browser.ask(method, address, body, content_type="application/json", sec_fetch_site="same-origin")
        assert answer.status == 401, address
    assert not served.agent.store.job("mine").held
    assert browser.get("/v1/jobs", sec_fetch_site="same-site").status == 403


def test_signing_out_ends_the_session_for_whoever_has_its_cookie(browser: Browser) -> None:
    browser.sign_in()
    kept = dict(browser.cookies)
    assert browser.send("/logout", {}).headers["location"] == "/login"
    assert browser.cookies == {}
    browser.cookies = kept
    assert browser.get("/").status == 303


@pytest.mark.parametrize(
    "there",
    ["https://evil.example", "//evil.example", "/\\evil.example", "\\\\evil", "javascript:alert(1)", "evil",
     "/ok\r\nSet-Cookie: a=b", "/\tevil", "/%0d%0aX: y\n", "http:/evil", "/" + "x" * 3000],
)  # fmt: skip
def test_nothing_leads_out_of_the_dashboard(browser: Browser, there: str) -> None:
    assert local_path(there) == "/"
    browser.sign_in()
    answer = browser.send("/theme", {"theme": "dark", "next": there})
    assert answer.status == 303 and answer.headers["location"] == "/" and "x" not in answer.headers
    page = browser.get("/login?" + "next=https%3A%2F%2Fevil.example%2F")
    assert page.status == 303 and page.headers["location"] == "/"


def test_a_token_signs_in_its_user_and_a_wrong_one_nobody(start: Serve, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.touch(0o600)
    tokens.write_text(f"nobody-here {TOKEN}\n")
    served = start(Listen.parse(f"127.0.0.1:{free_port()}", tokens), dashboard=free_port())
    browser = Browser(served)
    assert 'name="token"' in browser.get("/login").text
    for wrong in ("", "x" * 24, TOKEN[:-1], "é" * 24):
        answer = browser.send("/login", {"token": wrong}, page="/login")
        assert answer.status == 403 and "Nobody has this token" in answer.text and not browser.cookies, wrong
    answer = browser.send("/login", {"token": f" {TOKEN} ", "next": "/queue"}, page="/login")
    assert answer.status == 303 and answer.headers["location"] == "/queue"
    me = browser.get("/v1/me").json()
    assert me["user"] == "nobody-here" and not me["admin"]
    served.agent.store.create_job("theirs", "ana", {"name": "theirs"})
    refused = browser.send("/experiments/theirs/hold", {})
    assert refused.status == 403 and "it is ana" in refused.text and not served.agent.store.job("theirs").held
    assert browser.send("/nodes/here/drain", {}).status == 403
    assert "Drain" not in browser.get("/health").text
    assert 'action="/experiments/theirs' not in browser.get("/queue").text
    lines = [(line.verb, line.outcome.split(":")[0]) for line in served.agent.store.audit(user="nobody-here")]
    assert lines == [("hold", "refused"), ("drain", "refused")]


def test_the_port_of_the_api_has_the_dashboard_too(start: Serve, tmp_path: Path) -> None:

    tokens = tmp_path / "tokens"
    tokens.touch(0o600)
    tokens.write_text(f"nobody-here {TOKEN}\n")
    port = free_port()
    served = start(Listen.parse(f"127.0.0.1:{port}", tokens))
    link = Browser(served).client.post("/v1/dashboard/link")
    assert link["url"] is None  # no port of its own
    browser = Browser(served)
    browser.port = port
    assert browser.get(link["path"]).status == 303 and browser.get("/queue").status == 200
