# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What a job was given (arguments, environment, code) is its owner's: no page and no answer shows it to others."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port
from tests.unit.api_server import Serve, Served, start  # noqa: F401 - a fixture
from tests.unit.test_api import TOKEN, token_file  # noqa: F401 - a fixture
from tests.unit.web_jobs import Job, page, values, words
from ugro_py.api.server import Listen

CANARY = "canary-4711"
REQUEST = {
    "model": "tiny-llama", "args": ["--address", f"http://me:{CANARY}@there", f"word-{CANARY}"],
    "env": {"PLACE": CANARY},
}  # fmt: skip
STREAMS = ("live", "stream", "follow")
"""Addresses that go on for ever; what they send is a part of the pages, made by the same templates."""


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def served(start: Serve, token_file: Path, port: int) -> Served:
    made = start(Listen.parse(f"127.0.0.1:{port}", token_file))
    for name, user in (("first", "ob"), ("second", "nobody-here")):
        job = Job(made, name, user, REQUEST if user == "ob" else {"model": "tiny-llama", "args": ["--mine", "own-8"]})
        job.step(job.start(), 1, training_loss=3.0)
        request = made.agent.store.job(name).request
        git = {"commit": "c0", "branch": "main", "diff": f"+{CANARY}" if user == "ob" else ""}
        capsule = {"request": request, "program": ["train.py", *request["args"]], "code": {"digest": "d", "git": git}}
        job.paths.config.write_text(json.dumps(capsule))
        job.end("failed")
    made.agent.store.create_job("waits", "ob", {"name": "waits", **REQUEST})
    return made


def as_other(port: int, url: str) -> tuple[int, str]:
    """Return what somebody who is neither the owner nor an admin gets."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", url, headers={"Authorization": f"Bearer {TOKEN}", "Accept": "text/html,*/*"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")
    finally:
        connection.close()


def addresses(served: Served) -> list[str]:
    """Return every address of the application that can be read, for a job that ran and one that waits."""
    paths = {
        route.path for route in routes(served.app.routes) if "GET" in (getattr(route, "methods", None) or ())
    }  # fmt: skip
    plain = [path for path in sorted(paths) if not any(word in path for word in STREAMS)]
    values = {"{job}": ("first", "waits"), "{name:path}": ("config.json",), "{node}": ("gpu1",), "{path:path}": ("x",)}
    for name, given in values.items():
        plain = [path.replace(name, value) for path in plain for value in (given if name in path else ("",))]
    plain = [f"{path}?follow=false" if path.endswith("/metrics") else path for path in plain]
    both = "job=first&job=second"
    return [*plain, f"/compare?{both}", f"/compare?job=first&job=waits&{both}", f"/v1/compare?{both}&all=true",
            "/v1/compare?job=first&all=true", f"/experiments?q={CANARY}",
            f"/v1/experiments?search={CANARY}"]  # fmt: skip


def routes(found: Any) -> Iterator[Any]:
    """Yield the routes of an application, those of its routers too."""
    for route in found:
        yield route
        inner = getattr(route, "original_router", None) or getattr(route, "app", None)
        yield from routes(getattr(inner, "routes", ()))


def test_no_address_shows_them_to_others(served: Served, port: int) -> None:
    asked = addresses(served)
    assert "/v1/jobs/first" in asked and "/experiments/first" in asked and len(asked) > 40, asked
    shown = 0
    for url in asked:
        status, text = as_other(port, url)
        shown += status == 200
        echoed = text.replace(f'value="{CANARY}"', "").replace(f"?q={CANARY}", "").replace(f"&amp;q={CANARY}", "")
        assert CANARY not in echoed, url
    assert shown > 30


def test_who_submitted_it_and_admins_see_them(served: Served, port: int) -> None:
    """An admin sees them everywhere, a user their own: else the test above would prove nothing."""
    assert CANARY in page(served, "/experiments/first") and CANARY in page(served, "/compare?job=first")
    assert CANARY in json.dumps(values(served, "/v1/compare?job=first&job=second&all=true"))
    assert "own-8" in as_other(port, "/experiments/second")[1]
    for url in ("/compare?job=second", "/v1/compare?job=second&all=true"):
        assert "own-8" in as_other(port, url)[1], url
    text = words(as_other(port, "/compare?job=second&job=first")[1])
    assert "own-8" not in text and "Code, arguments and environment are shown to those who" in text
