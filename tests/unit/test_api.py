# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The API's doors: tokens on TCP, hosts, limits; and the client, on a real server in this process."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import asyncio
import http.client
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port
from tests.unit.api_server import FakeAgent, Serve, Served, start  # noqa: F401 - a fixture
from ugro_py import secret_env
from ugro_py.api import client, guard, unix
from ugro_py.api.app import create_app
from ugro_py.api.beneath import files_beneath, open_beneath
from ugro_py.api.prom import exposition
from ugro_py.api.server import Listen
from ugro_py.api.tokens import read_tokens
from ugro_py.errors import NotFoundError, StateError, UgroError, UsageError
from ugro_py.paths import JobPaths
from ugro_py.queue import spool
from ugro_py.request.job import JobRequest
from ugro_py.scheduler import Gpu, Request, place
from ugro_py.state import Controller

TOKEN = "t" * 24


def over_tcp(port: int, url: str, method: str = "GET", **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, url, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read() or b"null")


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.touch(0o600)
    path.write_text(f"# doors\nnobody-here {TOKEN}\n")
    return path


def test_tcp_needs_a_token_and_a_known_host(start: Serve, token_file: Path) -> None:
    port = free_port()
    start(Listen.parse(f"127.0.0.1:{port}", token_file))
    for wrong in ({}, {"Authorization": "Bearer x"}, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": TOKEN}):
        for url in ("/v1/me", "/v1/jobs", "/metrics", "/v1/agent", "/v1/events/stream"):
            assert over_tcp(port, url, **wrong)[0] == 401, (url, wrong)
    right = {"Authorization": f"Bearer {TOKEN}"}
    status, me = over_tcp(port, "/v1/me", **right)
    assert (status, me["user"], me["door"], me["admin"]) == (200, "nobody-here", "tcp", False)
    assert over_tcp(port, "/v1/me", Host="evil.example", **right)[0] == 421
    assert over_tcp(port, "/v1/me", Origin="http://evil.example", **right)[0] == 403
    assert over_tcp(port, "/v1/me", Sec_Fetch_Site="cross-site", **right)[0] == 403
    assert over_tcp(port, "/v1/jobs/x/stop", "POST", **right)[0] == 404


def test_tcp_is_never_open_by_accident(tmp_path: Path, token_file: Path) -> None:
    with pytest.raises(UsageError, match="token-file"):
        Listen.parse("127.0.0.1:7070", None)
    with pytest.raises(UsageError, match="clear text"):
        Listen.parse("0.0.0.0:7070", token_file)
    with pytest.raises(UsageError, match="ADDRESS:PORT"):
        Listen.parse("7070", token_file)
    assert Listen.parse("[::1]:7070", token_file).address == "::1"
    assert Listen.parse("0.0.0.0:7070", token_file, plain=True).plain


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("a b c\n", 0o600, "line 1"), ("a short\n", 0o600, "line 1"), ("", 0o600, "no token"),
        (f"a {TOKEN}\n", 0o644, "other accounts can read it"),
    ],
)  # fmt: skip
def test_token_files_that_are_not_safe_are_refused(tmp_path: Path, text: str, mode: int, said: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(StateError, match=said):
        read_tokens(path)


def test_bodies_that_say_they_are_small_are_counted(start: Serve) -> None:
    served = start()
    connection = http.client.HTTPConnection("localhost", timeout=60)
    connection.sock = unix.connect(served.path, 60)
    parts = (b"x" * 65536 for _ in range(64))
    connection.request("POST", "/v1/jobs", parts, {"Content-Type": "application/json"}, encode_chunked=True)
    assert connection.getresponse().status == 413
    assert guard.BODY_LIMIT == 1 << 20


def test_errors_come_back_as_they_were_raised(start: Serve) -> None:
    start()
    found = client.connect()
    assert found is not None
    with pytest.raises(NotFoundError, match=r"job 'nope': there is none; run `ugro ps --all`"):
        found.get(client.job_path("nope"))
    with pytest.raises(NotFoundError):
        found.get(client.job_path("../agent"))
    with pytest.raises(UsageError):
        found.post(client.job_path("x", "priority"), {"priority": 101})
    assert found.get("/v1/agent")["loops"]["schedule"]["worst_s"] == 0.4


def test_a_rerun_under_the_name_of_another_job_leaves_its_secrets_alone(start: Serve) -> None:
    served = start()
    values = {"secret_env": ["KEY"], "exclude": []}
    for name in ("mine", "theirs"):
        served.agent.store.create_job(name, "ob", JobRequest(name, secret_env=("KEY",)).as_dict() | values)
        code = spool.new_folder()
        (code / spool.CODE).mkdir()
        spool.describe(code, {spool.CODE: []})
        spool.commit(code, name)
    secret_env.keep("theirs", {"KEY": "right"})
    agent = client.Client(served.path)
    with pytest.raises(UsageError, match="taken"):
        agent.post("/v1/jobs/mine/rerun", {"name": "theirs", "secrets": {"KEY": "wrong"}})
    assert secret_env.of("theirs", ["KEY"]) == {"KEY": "right"}
    secret_env.forget("theirs")
    agent.post("/v1/jobs/mine/rerun", {"name": "again", "secrets": {"KEY": "new"}})
    assert JobPaths("again").cluster.exists() and spool.exists("again")
    served.agent.store.hold("again", "root")
    with pytest.raises(UsageError, match="it is pending"):  # a hold is let go by `release`, which asks who holds it
        agent.post("/v1/jobs/again/resume", {"secrets": {"KEY": "new"}})
    secret_env.forget("again")


def test_without_an_agent_there_is_no_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UGRO_DATA", str(tmp_path))
    monkeypatch.delenv("UGRO_AGENT", raising=False)
    assert client.connect() is None
    listener = unix.bind(tmp_path / "agent.sock", 0o600)
    listener.close()  # as if its process had been killed
    assert client.connect() is None
    monkeypatch.setenv("UGRO_AGENT", str(tmp_path / "other" / "agent.sock"))
    with pytest.raises(StateError, match="UGRO_AGENT"):
        client.connect()


def test_a_socket_in_a_deep_folder_and_the_place_of_a_dead_one(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60) / "agent.sock"
    for _ in range(2):
        listener = unix.bind(deep, 0o600)
        with unix.connect(deep, 5):
            pass
        with pytest.raises(StateError, match="another agent"):
            unix.bind(deep, 0o600)
        listener.close()
    assert deep.stat().st_mode & 0o777 == 0o600


def test_a_server_that_stops_ends_its_streams(start: Serve) -> None:
    served = start()
    found = client.connect()
    assert found is not None
    served.agent.store.add_event("one", "first")
    stream = found.events(after=0)
    assert next(stream)["data"]["kind"] == "one"
    ended = threading.Event()

    def read() -> None:
        try:
            for _ in stream:
                pass
        except UgroError:
            pass
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    served._loop.call_soon_threadsafe(served._stop.set)
    assert ended.wait(60)
    served._thread.join(60)
    assert not asyncio.all_tasks(served._loop)  # else Python complains of tasks that were destroyed


def test_no_link_is_followed(tmp_path: Path) -> None:
    root = tmp_path / "job"
    (root / "a").mkdir(parents=True)
    (root / "a" / "file").write_text("x")
    (tmp_path / "secret").write_text("secret")
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "folder").symlink_to(tmp_path)
    os.mkfifo(root / "pipe")
    os.close(open_beneath(root, "a/file"))
    for name in (
        "link",
        "folder/secret",
        "pipe",
        "a",
        "",
        "../secret",
        "a/../a/file",
        "/etc/passwd",
        "a\0b",
        "a//file",
    ):
        with pytest.raises(NotFoundError):
            open_beneath(root, name)
    assert list(files_beneath(root)) == [("a/file", 1)]


def test_every_answer_is_described(start: Serve) -> None:
    served = start()
    spec = create_app(served.agent).openapi()
    assert spec["info"]["title"] == "UGRO"
    for path, methods in spec["paths"].items():
        for method, what in methods.items():
            assert what.get("description"), f"{method} {path}"
            assert path == "/metrics" or path.startswith("/v1/")


def test_nodes_are_counted_by_the_state_that_people_see(tmp_path: Path) -> None:
    agent = FakeAgent(tmp_path)
    store, node = agent.store, agent.cluster.nodes[0]
    store.sync_node(node, [Gpu("CPU-here-0", "here", 0, "cpu", "CPU", None)], {})
    store.create_job("job", "ob", {})
    store.claim("job", Controller.me())
    placements = place(Request(), ["here"], store.gpus(), {})
    store.start_attempt("job", placements, master_addr="127.0.0.1", master_port=29500, token="t0k3n")
    store.drain("here", "ob", "new fan")
    assert b'ugro_nodes{state="draining"} 1.0' in exposition(agent)
    store.release("job")
    text = exposition(agent)
    assert b'ugro_nodes{state="drained"} 1.0' in text and b'ugro_nodes{state="draining"} 0.0' in text
    store.close()
