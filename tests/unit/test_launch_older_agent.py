# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What `ugro` sends to an agent: nothing that was not asked for, as an older agent refuses what it does not know."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from click.testing import CliRunner

from tests.unit.api_server import Serve, start  # noqa: F401 - a fixture
from ugro_py.api.client import Client
from ugro_py.cli import cli
from ugro_py.request.job import JobRequest

ALWAYS = {"name", "model", "dataset", "epochs", "priority"}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Return the path and the body of every POST of JSON, as they were sent."""
    found: list[tuple[str, dict[str, Any]]] = []
    whole = Client.post

    def post(self: Client, path: str, body: Mapping[str, Any] | None = None, *rest: Any) -> Any:
        found.append((path, dict(body or {})))
        return whole(self, path, body, *rest)

    monkeypatch.setattr(Client, "post", post)
    for name in ("UGRO_INVENTORY", "UGRO_MASTER", "UGRO_DB"):
        monkeypatch.delenv(name, raising=False)
    return found


def ugro(*words: str) -> None:
    done = CliRunner().invoke(cli, list(words))
    assert done.exit_code == 0, done.output


def test_a_launch_sends_what_was_asked_for_and_no_more(start: Serve, sent: list[tuple[str, dict[str, Any]]]) -> None:
    store = start().agent.store
    ugro("launch", "--name", "plain", "--detach")
    ugro("launch", "--name", "all", "--detach", "--tag", "a", "--note", "why", "--priority", "0", "--hold", "--retry=2")
    (_, plain), (_, full) = sent
    assert plain["request"].keys() <= ALWAYS
    assert full["request"].keys() <= ALWAYS | {"tags", "note", "hold", "retry"}
    asked = {key: full["request"][key] for key in ("tags", "note", "priority", "hold", "retry")}
    assert asked == {"tags": ("a",), "note": "why", "priority": 0, "hold": True, "retry": 2}
    for job, kept in {"plain": ((), "", 0, 50), "all": (("a",), "why", 2, 0)}.items():
        request = JobRequest.from_dict(store.job(job).request)
        assert (store.tags(job), store.note(job), request.retry, request.priority) == kept


def test_a_job_once_more_sends_no_name_and_no_limit_that_is_not_given(
    start: Serve, sent: list[tuple[str, dict[str, Any]]]
) -> None:
    store = start().agent.store
    ugro("launch", "--name", "first", "--detach", "--hold")
    ugro("rerun", "first", "--detach")
    store.set_job("first", "stopped", "test")
    ugro("resume", "first", "--detach")
    assert sent[1:] == [("/v1/jobs/first/rerun", {"secrets": {}}), ("/v1/jobs/first/resume", {"secrets": {}})]
    store.set_job("first", "stopped", "test")
    ugro("rerun", "first", "--name", "other", "--detach")
    ugro("resume", "first", "--time-limit", "2h", "--detach")
    assert [body for _, body in sent[3:]] == [{"name": "other", "secrets": {}}, {"secrets": {}, "time_limit_s": 7200.0}]
