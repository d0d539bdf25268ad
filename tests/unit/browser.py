# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What a browser does with the dashboard, without one: cookies, the headers it says where a request comes from with."""

from __future__ import annotations

import html
import http.client
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.ports import free_port
from tests.unit.api_server import Serve, Served, start  # noqa: F401 - a fixture
from ugro_py.api.client import Client


def hidden(page: str, name: str) -> str:
    """The value of the first field of this name in a page."""
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found, page[:2000]
    return html.unescape(found[1])


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    text: str
    cookies: list[str]

    def json(self) -> Any:
        return json.loads(self.text)


@pytest.fixture
def served(start: Serve) -> Served:  # noqa: F811 - the fixture
    """A server with the dashboard at a port of its own."""
    return start(dashboard=free_port())


class Browser:
    """A browser at the dashboard's port of a server."""

    def __init__(self, served: Served) -> None:
        self.port = served.dashboard
        self.client = Client(served.path)
        self.cookies: dict[str, str] = {}

    def sign_in(self) -> None:
        """Take a one-time link over the Unix socket, and follow it."""
        assert self.get(self.client.post("/v1/dashboard/link")["path"]).status == 303

    def get(self, address: str, **headers: str) -> Answer:
        return self.ask("GET", address, **headers)

    def post(self, address: str, form: Mapping[str, str], **headers: str) -> Answer:
        """Send a form from a page of the dashboard; headers that are "" are left out."""
        said = {"origin": f"http://localhost:{self.port}", "sec_fetch_site": "same-origin"}
        said["content_type"] = "application/x-www-form-urlencoded"
        return self.ask("POST", address, urlencode(form), **{**said, **headers})

    def send(self, address: str, form: Mapping[str, str], page: str = "/", **headers: str) -> Answer:
        """Send a form with the token of a page."""
        return self.post(address, {"csrf": hidden(self.get(page).text, "csrf"), **form}, **headers)

    def ask(self, method: str, address: str, body: str | None = None, **headers: str) -> Answer:
        with self.opened(method, address, body, **headers) as answer:
            text = answer.read().decode()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, text, self._keep(answer))

    @contextmanager
    def opened(
        self, method: str, address: str, body: str | None = None, **headers: str
    ) -> Iterator[http.client.HTTPResponse]:
        """An answer whose body is still to be read."""
        said = {"accept": "text/html,*/*", "host": f"localhost:{self.port}", **headers}
        if self.cookies:
            said["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            given = {name.replace("_", "-"): value for name, value in said.items() if value}
            connection.request(method, address, body, given)
            yield connection.getresponse()
        finally:
            connection.close()

    def _keep(self, answer: http.client.HTTPResponse) -> list[str]:
        sent = answer.headers.get_all("set-cookie") or []
        for line in sent:
            for name, morsel in SimpleCookie(line).items():
                if morsel["max-age"] == "0":
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value
        return sent


@pytest.fixture
def browser(served: Served) -> Browser:
    """A browser that somebody has signed in with."""
    found = Browser(served)
    found.sign_in()
    return found
