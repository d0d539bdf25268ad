# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The dashboard's form to launch a job: files, secrets, all options, and errors at their fields."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import logging
import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.unit.api_server import Served
from tests.unit.browser import Browser, browser, served, start  # noqa: F401 - fixtures
from tests.unit.launch_form import Files, nothing_left, send
from tests.unit.web_jobs import check_safe, words
from ugro_py import paths, secret_env
from ugro_py.api import uploads
from ugro_py.commands.launch import command
from ugro_py.errors import StateError
from ugro_py.request.job import request_of
from ugro_py.users import me
from ugro_py.web import launch_check, sent_files

SECRET = "s3cret-canary=&<b>"


def test_secrets_reach_the_ranks_alone(
    browser: Browser, served: Served, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    form = {
        "name": "hush",
        "env": "A=1\n# not this\n\nB=two words = x",
        "secrets": f"KEY={SECRET}\r\nOTHER=x y",
        "hold": "yes",
    }
    wrong = send(browser, {**form, "epochs": "no"})
    assert wrong.status == 400 and SECRET not in wrong.text and "canary" not in wrong.text
    assert "B=two words = x" in wrong.text and "Fill in again" in wrong.text
    assert send(browser, form).status == 303
    asked = served.agent.store.job("hush").request
    assert asked["env"] == {"A": "1", "B": "two words = x"} and asked["secret_env"] == ["KEY", "OTHER"]
    assert secret_env.of("hush", ["KEY", "OTHER"]) == {"KEY": SECRET, "OTHER": "x y"}
    for page in ("/experiments/hush", "/launch", "/queue", "/events", "/v1/jobs/hush", "/compare?job=hush"):
        assert "canary" not in browser.get(page).text, page
    assert "canary" not in caplog.text and "canary" not in str(served.agent.store.audit())
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"canary" in path.read_bytes()]


def test_values_of_variables_are_those_of_the_command_line(browser: Browser, served: Served) -> None:
    given = {
        "A": " two blanks  ", "B": "", "C": "\t", "D": "a\u2028b\x0bc\x0cd\x1ce\x85f", "E": "=x='y' # no comment",
        "F": "\u00a0", "G": "ende ",
    }  # fmt: skip
    options = {option.name: None for option in command.params} | {"stall_timeout": 0, "include": (), "exclude": ()}
    options |= {"args": (), "script": "a.py", "env": [f"{name}={value}" for name, value in given.items()]}
    expected = request_of(served.agent.cluster, options).env
    assert expected == given
    for end in ("\n", "\r\n"):
        lines = end.join(["", "  # none", *options["env"]])
        for field in ("env", "secrets"):
            name = f"{field}-{len(end)}"
            assert send(browser, {"name": name, "hold": "yes", field: lines}).status == 303
            asked = served.agent.store.job(name).request
            found = asked["env"] if field == "env" else secret_env.of(name, asked["secret_env"])
            assert found == expected, (field, end)


def test_what_is_wrong_with_a_secret_does_not_show_it(browser: Browser, served: Served) -> None:
    for text in ("canary", "canary word=x", f"A=1\n{SECRET} x=1", "A=1\nA=canary", "UGRO_X=canary"):
        answer = send(browser, {"name": "hush", "secrets": text})
        assert answer.status == 400 and "canary" not in answer.text, answer.text
        assert re.search(r'id="secrets-error">[^<]', answer.text), answer.text
    assert nothing_left(served)


WRONG = (
    ("args", "--a 'b", "no closing quotation"), ("env", "A=1\nB", "line 2"), ("gpus", "some", "no number of GPUs"),
    ("nodes", "²", "no whole number"), ("retry", "-1", "no whole number"), ("epochs", "0", "at least 1"),
    ("time_limit", "soon", "no length of time"), ("stall_timeout", "soon", "no length of time"),
    ("priority", "1000", "no priority"), ("include", "gpu1:x", "is not NODE"), ("resume", "none", "no such job"),
    ("resume", "../x", "not a valid name"), ("after", "../x", "not a valid name"), ("name", "A B", "not a valid name"),
    ("model", "/etc/passwd", "no name of the hub"), ("min_nodes", "0", "at least 1"), ("env", "1A=2", "line 1"),
    ("tags", "good bad!", "not valid"),
    ("env", "UGRO_A=2", "not a name that a job may set"), ("entry", "x.py", "no x.py among the files"),
)  # fmt: skip


def test_an_error_is_told_at_its_field(browser: Browser, served: Served) -> None:
    for field, value, said in WRONG:
        form = {
            "name": "fine",
            "code": "x = '<b>kept</b>'" if field == "args" else "",
            "env": "K=<b>kept</b>",
            "hold": "yes",
            field: value,
        }
        files = [("files", "y.py", b"")] if field == "entry" else []
        answer = send(browser, form, files)
        assert answer.status == 400, answer.text
        check_safe(answer.text)
        found = re.search(rf'id="{field}-error">(.*?)</p>', answer.text, re.DOTALL)
        assert found and said.lower() in words(found[1]).lower(), answer.text
        assert field == "env" or "K=&lt;b&gt;kept&lt;/b&gt;" in answer.text
        assert " checked" in answer.text
        assert nothing_left(served)
        part = send(browser, form, files, hx_request="true")
        assert part.status == 400 and "<form" not in part.text and part.text.count('hx-swap-oob="true"') > 20
        assert said.lower() in words(part.text).lower()


@pytest.mark.parametrize("do", ["", "check"])
def test_the_status_says_what_kind_of_error_it_is(
    browser: Browser, served: Served, monkeypatch: pytest.MonkeyPatch, do: str
) -> None:
    store = served.agent.store
    store.create_job("there", "ob", {})
    store.set_job("there", "failed", "so that there is one")
    own = [("script", "a.py", b"")]

    def told(status: int, field: str, files: Files = (), **form: str) -> None:
        for headers in ({}, {"hx_request": "true"}):
            answer = send(browser, {"name": "x", "env": "K=kept", "do": do, **form}, files, **headers)
            assert answer.status == status, answer.text
            assert not field or re.search(rf'id="{field}-error"[^>]*>[^<]', answer.text), answer.text
            assert 'role="alert"' in answer.text and ("K=kept" in answer.text) is not bool(headers)
        assert list(paths.spool_inbox().glob("*")) == []

    told(409, "name", name="there")
    told(404, "after", after="none")
    told(400, "epochs", epochs="0")
    monkeypatch.setattr(sent_files, "MOST_BYTES", 100)
    told(413, "files", [*own, ("files", "large", bytes(101))])
    monkeypatch.setattr(uploads, "room", lambda: (0, 1 << 40))
    told(507, "", own)
    store.set_account("user", me().user, max_queued=0)
    told(403, "")


def test_all_errors_are_told_at_once_and_all_options_reach_the_job(browser: Browser, served: Served) -> None:
    text = send(browser, {"name": "x", "gpus": "some", "retry": "many", "time_limit": "soon"}).text
    assert all(re.search(rf'id="{name}-error">[^<]', text) for name in ("gpus", "retry", "time_limit"))
    served.agent.store.create_job("before", "ob", {})
    form = {
        "name": "all", "gpus": "2x8GB..", "min_nodes": "1", "retry": "2", "time_limit": "2h", "stall_timeout": "20m",
        "priority": "batch", "include": "a, b:0,1", "exclude": "c", "after": "before", "batch_size": "4", "epochs": "2",
        "gradient_accumulation": "8", "args": "--x ''", "tags": "good, lr:3e-4", "note": "first\r\nsecond <b>",
    }  # fmt: skip
    assert send(browser, form).status == 303
    asked = served.agent.store.job("all").request
    expected = {
        "gpus": 2, "min_vram_gb": 8.0, "min_nodes": 1, "retry": 2, "time_limit_s": 7200.0, "stall_timeout_s": 1200.0,
        "priority": 10, "include": ["a", "b:0,1"], "exclude": ["c"], "after": ["before"], "batch_size": 4, "epochs": 2,
        "gradient_accumulation": 8, "args": ["--x", ""],
    }  # fmt: skip
    assert {key: asked[key] for key in expected} == expected
    store = served.agent.store
    assert (store.tags("all"), store.note("all")) == (("good", "lr:3e-4"), "first\nsecond <b>")


def test_check_shows_the_plan_and_launches_nothing(browser: Browser, served: Served) -> None:
    form = {"name": "plan", "do": "check", "args": "--flag 'a b'", "secrets": f"KEY={SECRET}", "env": "A=1"}
    answer = send(browser, form, [("script", "mine.py", b"print(1)")])
    text = words(answer.text)
    assert answer.status == 200, text
    assert "What a launch would do" in text and "Nothing was started" in text and "canary" not in answer.text
    assert re.search(r"torch\.distributed\.run .*mine\.py --flag 'a b'", text), text
    assert "Fill in again, browsers do not keep it: Script, Secret variables." in text
    assert nothing_left(served)
    part = send(browser, {"name": "plan", "do": "check"}, hx_request="true")
    assert "<form" not in part.text and "train_production.py" in part.text
    refused = send(browser, {"name": "plan", "do": "check", "include": "elsewhere"})
    assert refused.status == 404 and "known nodes: here" in words(refused.text)


def test_a_browser_refuses_no_number_that_is_taken(browser: Browser, served: Served) -> None:
    fields = dict(re.findall(r'<input id="(\w+)"[^>]* type="number"([^>]*)>', browser.get("/launch").text))
    assert set(fields) == {"epochs", "nodes", "retry", "min_nodes", "batch_size", "gradient_accumulation"}
    for name, attributes in fields.items():
        least, most = (int(re.search(rf'\b{word}="(\d+)"', attributes)[1]) for word in ("min", "max"))  # type: ignore[index]
        for number, taken in ((least - 1, False), (least, True), (most, True), (most + 1, False)):
            form = {"name": f"{name}-{number}".replace("_", "-").replace("--", "-minus-"), "hold": "yes"}
            answer = send(browser, {**form, name: str(number)})
            assert answer.status == (303 if taken else 400), (name, number, words(answer.text))


def test_check_says_what_the_queue_would(browser: Browser, served: Served) -> None:
    store, user = served.agent.store, me().user

    def said(**form: str) -> str:
        answer = send(browser, {"name": "plan", "do": "check", **form})
        assert answer.status == 200 and nothing_left(served), answer.text
        return words(answer.text)

    assert "It would wait" not in said() and "1 rank ; rank 0" in said().replace("rank;", "rank ;")
    assert f"It would wait in the queue: held by {user}" in said(hold="yes")
    store.set_account("user", user, gpu_hours_week=0)
    text = said()
    assert f"It would wait in the queue: quota: {user} used 0.0 of 0 GPU hours" in text, text
    assert "If its turn were now: 1 rank" in text and "train_production.py" in text


def test_a_user_whose_checks_go_on_keeps_nobody_from_theirs(browser: Browser, served: Served) -> None:
    user = me().user
    with ExitStack() as stack:
        for name in ("ann", "ann", "vic", "vic"):
            stack.enter_context(launch_check.turns.of(name))
        with pytest.raises(StateError, match="2 of ann's jobs"), launch_check.turns.of("ann"):
            pass
        assert send(browser, {"name": "plan", "do": "check"}).status == 200
        with launch_check.turns.of(user), launch_check.turns.of(user):
            answer = send(browser, {"name": "plan", "do": "check"})
            assert answer.status == 503 and f"2 of {user}" in words(answer.text)
        for number in range(launch_check.OF_ALL - 4):
            stack.enter_context(launch_check.turns.of(f"user {number}"))
        with pytest.raises(StateError, match="others"), launch_check.turns.of("one more"):
            pass
    assert not launch_check.turns._looking
