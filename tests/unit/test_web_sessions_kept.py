# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""How long a session lasts: over a restart of the agent, until it is ended, and as long as what it stands on."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.ports import free_port
from tests.unit.api_server import Serve, Served, start  # noqa: F401 - a fixture
from tests.unit.browser import Browser, hidden
from tests.unit.test_web_live import until
from ugro_py import users
from ugro_py.api.server import Listen
from ugro_py.api.tokens import Tokens
from ugro_py.errors import StateError
from ugro_py.state import Store
from ugro_py.users import Person
from ugro_py.web import session
from ugro_py.web.session import Sessions

ME = users.me()
TOKEN, OTHER = "t" * 24, "o" * 24


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """A token file."""
    path = tmp_path / "tokens"
    write(path, f"nobody {TOKEN}\n")
    return path


def write(path: Path, content: str) -> None:
    """Replace a token file as an editor does."""
    new = path.with_name("tokens.new")
    new.touch(0o600)
    new.write_text(content)
    new.rename(path)


def kept(store: Store) -> list[tuple[object, ...]]:
    with store.database.read() as connection:
        return [tuple(row) for row in connection.execute(text("SELECT * FROM web_sessions"))]


def test_links_and_sessions_end(store: Store) -> None:
    now = [1e9]
    sessions, nobodys = Sessions(store, lambda: now[0]), Tokens()
    code, late = sessions.link(ME), sessions.link(ME)
    first = sessions.redeem(code)
    assert sessions.person(first, nobodys) == ME and sessions.redeem(code) is None
    now[0] += session.LINK_S
    assert sessions.redeem(late) is None
    key, used = sessions.begin(ME), sessions.begin(ME)
    now[0] += session.IDLE_S - 1
    assert sessions.person(used, nobodys) == ME
    now[0] += 1
    assert sessions.person(key, nobodys) is None and sessions.person(used, nobodys) == ME
    for _ in range(7):
        now[0] += session.IDLE_S - 1
        sessions.person(used, nobodys)
    assert sessions.person(used, nobodys) is None  # however much it was used
    assert sessions.person(None, nobodys) is None and sessions.person("", nobodys) is None
    sessions.begin(ME)
    assert len(kept(store)) == 1  # what is over is not kept


def test_another_agent_knows_who_is_signed_in_and_who_is_not(store: Store) -> None:
    """One that begins later, or takes over on another host: with the database it has the sessions."""
    now, nobodys = [1e9], Tokens()
    first = Sessions(store, lambda: now[0])
    stays, leaves = first.begin(ME), first.begin(ME)
    now[0] += 0.9 * session.IDLE_S
    assert first.person(stays, nobodys) == ME
    first.end(leaves)
    assert first.person(leaves, nobodys) is None
    second = Sessions(store, lambda: now[0])
    now[0] += 0.9 * session.IDLE_S  # that it was used is known there too
    assert second.person(stays, nobodys) == ME and second.person(leaves, nobodys) is None
    assert first.forgery_token(stays, "") == second.forgery_token(stays, "")  # open pages can be sent
    assert first.forgery_token(stays, "") != first.forgery_token(leaves, "")
    assert first.forgery_token(None, "nobody") != second.forgery_token(None, "nobody")
    (row,) = kept(store)
    assert stays not in str(row) and len(str(row[0])) == 64
    now[0] += 6 * 86400
    assert Sessions(store, lambda: now[0]).person(stays, nobodys) is None


def test_one_user_cannot_end_the_sessions_of_others(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    now, nobodys = [1e9], Tokens()
    monkeypatch.setattr(session, "_MOST_SESSIONS", 3)
    sessions, other, keys = Sessions(store, lambda: now[0]), Person("65000", 65000), []
    mine = sessions.begin(ME)
    for _ in range(5):
        now[0] += 1
        keys.append(sessions.begin(other))
    assert [sessions.person(key, nobodys) is not None for key in keys] == [False, False, True, True, True]
    assert sessions.person(mine, nobodys) == ME
    link = sessions.link(ME)
    theirs = [sessions.link(other) for _ in range(session._MOST_LINKS + 1)]
    assert [sessions.redeem(code) is not None for code in (link, theirs[0], theirs[1])] == [True, False, True]


def test_a_session_that_ends_while_a_request_reads_it_has_ended(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    nobodys, before = Tokens(), Sessions(store)
    keys = [before.begin(ME) for _ in range(3)]
    after = Sessions(store)  # has seen none of them
    read = store.web_session

    def read_then_ended(digest: str) -> object:
        monkeypatch.undo()
        row = read(digest)
        for key in keys:
            after.end(key)
        return row

    monkeypatch.setattr(store, "web_session", read_then_ended)
    assert [after.person(key, nobodys) for key in keys] == [None] * 3


def test_a_session_is_of_an_account_as_it_is_now(store: Store) -> None:
    sessions, nobodys = Sessions(store), Tokens()
    gone = sessions.begin(Person("was-here", ME.uid))  # the number is another account's now
    assert sessions.person(gone, nobodys) is None
    stale = sessions.begin(Person(ME.user, ME.uid, ("group-of-long-ago",)))
    assert sessions.person(stale, nobodys) == ME  # with the groups of this moment
    group = users.person_of(65000, os.getgid()).groups
    nameless = sessions.begin(Person("65000", 65000), gid=os.getgid())
    assert sessions.person(nameless, nobodys) == Person("65000", 65000, group)


def test_a_token_that_is_gone_ends_its_session_for_good(store: Store, tokens: Path) -> None:
    found = Tokens()
    found.follow(tokens)
    sessions = Sessions(store)
    key, linked = sessions.begin(Person("nobody", None), token=TOKEN), sessions.link(Person("nobody", 1), token=TOKEN)
    assert sessions.person(key, found) == users.person_named("nobody")
    write(tokens, "broken")  # nothing can be concluded from a file that is no good: nobody enters, nothing ends
    assert until(lambda: sessions.person(key, found) is None)
    write(tokens, f"nobody {TOKEN}\n")
    assert until(lambda: sessions.person(key, found) is not None)
    second = sessions.redeem(linked)
    assert sessions.person(second, found) is not None
    for content in (f"nobody {OTHER}\n", f"daemon {TOKEN}\n"):  # another token of theirs; theirs is another's
        newest = sessions.begin(Person("nobody", None), token=TOKEN)
        write(tokens, content)
        assert until(functools.partial(lambda key: sessions.person(key, found) is None, newest))
        write(tokens, f"nobody {TOKEN}\n")
        assert until(lambda: found.now().get(TOKEN) == "nobody")
        assert sessions.person(newest, found) is None
    assert TOKEN not in str(kept(store))


def test_a_dashboard_without_tokens_leaves_the_sessions_of_tokens_alone(start: Serve, tokens: Path) -> None:
    served = start(Listen.parse(f"127.0.0.1:{free_port()}", tokens), dashboard=free_port())
    browser = Browser(served)
    assert browser.send("/login", {"token": TOKEN}, page="/login").status == 303
    alone = Browser(start(dashboard=free_port(), name="other"))  # over the same store, as `ugro dashboard` may be
    alone.cookies = {f"ugro_session_{alone.port}": key for key in browser.cookies.values()}
    assert alone.get("/v1/me").status == 401  # it knows of no token,
    assert browser.get("/v1/me").json()["user"] == "nobody"  # and ends nothing that it cannot judge
    assert len(kept(served.agent.store)) == 1


def test_who_was_seen_stays_signed_in_while_the_database_is_away(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions, nobodys = Sessions(store), Tokens()
    key, unseen = sessions.begin(ME), Sessions(store).begin(ME)

    def away(*_: object, **__: object) -> None:
        raise StateError("the database", "is away")

    for name in ("web_session", "use_web_session", "end_web_session"):
        monkeypatch.setattr(store, name, away)
    assert sessions.person(key, nobodys) == ME
    with pytest.raises(StateError):  # not that nobody is signed in: it is not known
        sessions.person(unseen, nobodys)
    with pytest.raises(StateError):
        sessions.end(key)
    assert sessions.person(key, nobodys) == ME


@pytest.fixture
def at(start: Serve, tmp_path: Path) -> Iterator[Callable[[], Browser]]:
    """Start an agent's server anew, at the same port, and give the same browser."""
    port, made, cookies = free_port(), list[Served](), dict[str, str]()

    def again() -> Browser:
        if made:
            made[-1].close()
        made.append(start(dashboard=port))
        browser = Browser(made[-1])
        browser.cookies = cookies
        return browser

    yield again


def test_a_restart_of_the_agent_signs_nobody_out(at: Callable[[], Browser]) -> None:
    browser = at()
    browser.sign_in()
    token = hidden(browser.get("/").text, "csrf")
    browser = at()
    me = browser.get("/v1/me").json()
    assert (me["user"], me["door"]) == (ME.user, "web")
    # Of a page that was open all the time.
    assert browser.post("/theme", {"csrf": token, "theme": "dark"}).status == 303


def test_a_cookie_of_a_session_that_was_ended_is_worth_nothing_after_a_restart(at: Callable[[], Browser]) -> None:
    browser = at()
    browser.sign_in()
    stolen = dict(browser.cookies)
    browser.send("/logout", {})
    browser.cookies.update(stolen)
    assert browser.get("/").status == 303
    browser = at()
    browser.cookies.update(stolen)
    assert browser.get("/").status == 303


def test_a_link_that_a_token_made_ends_with_the_token(start: Serve, tokens: Path) -> None:
    port = free_port()
    served = start(Listen.parse(f"127.0.0.1:{port}", tokens), dashboard=free_port())
    browser = Browser(served)
    browser.port = port
    said = {"authorization": f"Bearer {TOKEN}", "content_type": "application/json", "sec_fetch_site": ""}
    link = browser.ask("POST", "/v1/dashboard/link", "{}", **said).json()
    assert link["user"] == "nobody" and browser.get(link["path"]).status == 303
    assert browser.get("/v1/me").json()["user"] == "nobody"
    write(tokens, f"daemon {OTHER}\n")
    assert until(lambda: browser.get("/v1/me").status == 401)
    assert browser.get("/").status == 303 and kept(served.agent.store) == []
    assert browser.get("/login").status == 200  # not sent back and forth
