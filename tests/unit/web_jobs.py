# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Jobs for tests of the dashboard's pages, and a browser without a script that reads them over the agent's socket."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from typing import Any

from tests.unit.api_server import Served
from ugro_py import metrics
from ugro_py.api import unix
from ugro_py.cluster import Node
from ugro_py.paths import JobPaths
from ugro_py.scheduler import Gpu, Request, place
from ugro_py.state import Controller

NODES = ("gpu-master", "gpu1")
HTML = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


class Job:
    """A job of two ranks in the store of a served agent, and its folder. One that is not `new` is there already."""

    def __init__(
        self, served: Served, name: str = "first", user: str = "ob", request: Any = None, *, new: bool = True
    ) -> None:
        self.store = served.agent.store
        self.name = name
        self.paths = JobPaths(name)
        for folder in (self.paths.logs, self.paths.checkpoints, self.paths.tensorboard):
            folder.mkdir(parents=True)
        for index, node in enumerate(NODES):
            card = Gpu(f"GPU-{node}", node, 0, "card", "cuda", 12.0)
            self.store.sync_node(Node(node, f"10.0.0.{index}", "worker" if index else "master"), [card], {})
        if new:
            self.store.create_job(name, user, {"name": name, **(request or {"model": "tiny-llama"})})

    def start(self) -> int:
        """Start an attempt; the job runs."""
        if self.store.job(self.name).controller is None:
            self.store.claim(self.name, Controller.me())
        where = place(Request(), NODES, self.store.gpus(), {})
        number = self.store.start_attempt(
            self.name, where, master_addr="10.0.0.0", master_port=29500, token="t0k3n"
        )  # fmt: skip
        self.store.set_job(self.name, "running")
        return number

    def step(self, attempt: int, step: int, **values: object) -> None:
        """Add what both ranks tell of a step."""
        for rank in range(len(NODES)):
            self.tell(attempt, rank, step, **values)

    def tell(self, attempt: int, rank: int, step: int, **values: object) -> None:
        """Add what one rank tells of a step."""
        line = {"t": 1_700_000_000 + step, "kind": "metrics", "rank": rank, "step": step, **values}
        path = self.paths.node_events(attempt, NODES[rank])
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        metrics.rebuild(self.paths)

    def log(self, text: bytes, rank: int = 0) -> None:
        """Add to a rank's log."""
        with self.paths.rank_log(rank).open("ab") as stream:
            stream.write(text)

    def end(self, status: str = "completed") -> None:
        """End the job as its controller does."""
        attempt = self.store.attempt(self.name)
        if attempt:
            self.store.set_attempt(self.name, attempt.number, status=status)
        self.store.release(self.name)
        self.store.set_job(self.name, status)


@contextmanager
def connected(served: Served) -> Iterator[http.client.HTTPConnection]:
    """Give a connection to the agent's socket."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = unix.connect(served.path, 60)
    try:
        yield connection
    finally:
        connection.close()


def get(served: Served, url: str, **headers: str) -> tuple[int, str, http.client.HTTPMessage]:
    """Return status, text and headers of a page."""
    with connected(served) as connection:
        connection.request("GET", url, headers={"Accept": "text/html", **headers})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers


def page(served: Served, url: str) -> str:
    """Return a page that must be there, and be safe."""
    status, text, _ = get(served, url)
    assert status == 200, text[:2000]
    check_safe(text)
    return text


def values(served: Served, url: str) -> Any:
    """Return JSON that must be there, of which a browser reads every number."""
    status, text, _ = get(served, url)
    assert status == 200, text[:2000]

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.bad: list[str] = []
        self.text: list[str] = []
        self._script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._script = tag == "script"
        if tag == "script" and not (given.get("src") or "").startswith("/static/"):
            self.bad.append("a script of the page's own")
        for name, value in attrs:
            if name.startswith("on") or name == "style":
                self.bad.append(f"{tag} {name}")
            if name in ("href", "src", "action", "formaction") and not (value or "").startswith(("/", "#", "?")):
                self.bad.append(f"{tag} {name}={value}")
            if value and value.startswith("//"):
                self.bad.append(f"{tag} {name}={value}")
        if tag == "img" and not (given.get("src") or "").startswith("/static/"):
            self.bad.append("an image that nobody put there")

    def handle_data(self, data: str) -> None:
        if self._script and data.strip():
            self.bad.append("a script of the page's own")
        self.text.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._script = False


def check_safe(text: str) -> None:
    """Demand that a page has no script, style or address that its policy forbids: what a job says is text."""
    found = _Elements()
    found.feed(text)
    assert not found.bad, found.bad


def words(text: str) -> str:
    """Return what a person reads on a page."""
    found = _Elements()
    found.feed(text)
    return " ".join(" ".join(found.text).split())
