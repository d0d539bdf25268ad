# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Every path of the API, asked with what it does not expect, of a database with rows that make no sense: it answers."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from sqlalchemy import text

from tests.unit.api_server import Serve, Served, start  # noqa: F401 - a fixture
from ugro_py.api import unix
from ugro_py.api.app import create_app
from ugro_py.paths import JobPaths

ROWS = (
    "{}",
    "{no JSON",
    "[]",
    "null",
    '"text"',
    "7",
    '{"model": 5, "script": {}, "include": 3, "after": "x", "env": null}',
)
NAMES = ("nope", "job-0", "job-1", "job-6", "..", "a/b", "A" * 300, "\0", "ä", "%00", " ", "*", "-1")
VALUES = ("", "-1", "0", "9" * 30, "1e400", "nan", "x", "\0", "true", "ä" * 2000, "[]", "1; DROP TABLE jobs", "1d")
BODIES = (b"", b"{}", b"[]", b"null", b"7", b"{", b"\xff\xfe", b'{"request": []}', b'{"a": ' + b"[" * 20_000,
          b'{"request": {"name": 5}}', b'{"request": {"name": "x", "epochs": 1e400}}',
          b'{"request": {"gpus": 99999999999999999999999}}', b'{"force": "x"}', b'{"priority": 1e99}',
          b'{"to": "nowhere"}', b'{"max_gpus": -1}', b'{"reason": "\\u0000"}', b'{"secrets": {"A": 5}}')  # fmt: skip


@pytest.fixture
def served(start: Serve) -> Served:
    """Return a server whose store holds jobs that nobody could have submitted."""
    made = start()
    store = made.agent.store
    for number, row in enumerate(ROWS):
        store.create_job(f"job-{number}", "ob", {})
        with store.database.write() as connection:
            connection.execute(
                text("UPDATE jobs SET request = :row WHERE name = :name"), {"row": row, "name": f"job-{number}"}
            )
        JobPaths(f"job-{number}").root.mkdir(parents=True)
        JobPaths(f"job-{number}").metrics.write_text(row + '\n{"rank": "x"}\n\xff\n7\n')
    store.add_event("odd", "text", data={"x": 1})
    return made


class Asking:
    """One connection, made anew when the server ends it."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.connection: http.client.HTTPConnection | None = None
        self.again = 0

    def ask(self, method: str, url: str, body: bytes | None = None) -> tuple[int, str, bytes]:
        if self.connection is None:
            self.connection = http.client.HTTPConnection("localhost")
            self.connection.sock = unix.connect(self.served.path, 30)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            self.connection.request(method, url, body, headers)
            answer = self.connection.getresponse()
        except (OSError, http.client.HTTPException):  # it hung up after the answer before this one
            self.connection.close()
            self.connection = None
            self.again += 1
            assert self.again < 200
            return self.ask(method, url, body)
        kind = answer.getheader("content-type", "")
        stream = "event-stream" in kind
        content = b"" if stream else answer.read()
        if stream or answer.will_close:
            self.connection.close()
            self.connection = None
        return answer.status, kind, content


def operations(served: Served) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in create_app(served.agent).openapi()["paths"].items():
        for method, what in methods.items():
            yield method.upper(), path, what


def filled(path: str, value: str) -> str:
    while "{" in path:
        begin, end = path.index("{"), path.index("}")
        path = path[:begin] + quote(value, safe="") + path[end + 1 :]
    return path


def urls(path: str, what: dict[str, Any]) -> Iterator[str]:
    for name in NAMES if "{" in path else ("",):
        yield filled(path, name)
    known = [one["name"] for one in what.get("parameters", ()) if one["in"] == "query"]
    for parameter in known:
        for value in VALUES:
            yield filled(path, "job-0") + "?" + urlencode({parameter: value})
    yield filled(path, "job-0") + "?" + urlencode([("unknown", "x"), *((one, "1") for one in known)])


def test_whatever_is_asked_is_answered(served: Served) -> None:
    asking, wrong, count = Asking(served), [], 0
    for method, path, what in operations(served):
        for url in urls(path, what) if method == "GET" else ():
            if "follow=true" in url or (path.endswith(("logs", "metrics")) and "follow" not in url and "{" in path):
                url += "&follow=false" if "?" in url else "?follow=false"
            status, kind, content = asking.ask(method, url)
            count += 1
            if status >= 500 or (status >= 400 and "exit_code" not in json.loads(content)["error"]):
                wrong.append((status, url[:120], content[:200]))
            elif status < 400 and kind == "application/json":
                json.loads(content)
        for body in BODIES if method != "GET" else ():
            for name in ("nope", "job-0", "job-6", "\0"):
                url = filled(path, name)
                status, kind, content = asking.ask(method, url, body)
                count += 1
                if status >= 500 or (status >= 400 and "exit_code" not in json.loads(content)["error"]):
                    wrong.append((status, f"{method} {url[:120]}", body[:60], content[:200]))
    assert not wrong, "\n".join(map(str, wrong))
    assert count > 500
    assert [line["job"] for line in json.loads(asking.ask("GET", "/v1/jobs?all=true")[2])][-7:] == [
        f"job-{number}" for number in reversed(range(7))
    ]
