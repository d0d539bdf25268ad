# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""`ugro dashboard`: alone, at an agent, and from another machine; the port it needs is its own or nobody's."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import http.client
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.ports import free_port
from tests.unit.api_server import Serve, start  # noqa: F401 - a fixture
from tests.unit.test_web_live import until
from ugro_py import users
from ugro_py.api.loopback import loopback
from ugro_py.state import Controller, Store

UGRO = [sys.executable, "-c", "from ugro_py.cli import main; main()"]
# What `ssh` does here: run the command on "the master", which is this machine, or hold a port open that leads there.
SSH = """#!{python}
import os, socket, sys, threading
words = sys.argv[1:]
if "-L" not in words:
    os.execvp("sh", ["sh", "-c", words[words.index("--") + 2]])
here, port, there, target = words[words.index("-L") + 1].split(":")
listener = socket.create_server((here, int(port)))
def pump(a, b):
    while block := a.recv(65536):
        b.sendall(block)
    b.shutdown(socket.SHUT_WR)
while True:
    one, _ = listener.accept()
    other = socket.create_connection(("127.0.0.1", int(target)))
    for pair in ((one, other), (other, one)):
        threading.Thread(target=pump, args=pair, daemon=True).start()
"""


def env(folder: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("UGRO_")}
    return {**kept, "UGRO_DATA": str(folder), "HOME": str(folder), "DISPLAY": "", "WAYLAND_DISPLAY": ""}


def run(folder: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*UGRO, *words], env=env(folder) | more, capture_output=True, text=True, check=False)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Any]:
    """Start `ugro dashboard` and read the address it prints."""
    processes: list[subprocess.Popen[str]] = []

    def begin(*words: str, **more: str) -> tuple[str, subprocess.Popen[str]]:
        process = subprocess.Popen(
            [*UGRO, *words, "--json"], env={**env(tmp_path), **more}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        processes.append(process)
        assert process.stdout
        line = process.stdout.readline()
        assert line, process.stderr and process.stderr.read()
        return str(json.loads(line)["url"]), process

    yield begin
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=60)


def ask(url: str, cookie: str = "") -> http.client.HTTPResponse:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    headers = {"accept": "text/html", **({"cookie": cookie} if cookie else {})}
    connection.request("GET", f"{parts.path or '/'}?{parts.query}", headers=headers)
    return connection.getresponse()


def page_of(link: str, path: str = "/") -> str:
    """Sign in with a link, and return a page."""
    answer = ask(link)
    assert answer.status == 303
    cookie = (answer.headers["set-cookie"] or "").split(";")[0]
    parts = urlsplit(link)
    page = ask(f"http://{parts.netloc}{path}", cookie)
    assert page.status == 200
    return page.read().decode()


def test_without_an_agent_it_is_served_until_ctrl_c(started: Any, tmp_path: Path) -> None:
    link, process = started("dashboard", "--port", "0")
    assert link.startswith("http://localhost:")
    health = page_of(link, "/health")
    assert "No agent runs" in health and "Nobody has looked at it." in health and "The agent has not" not in health
    assert ask(link).status == 403  # once
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    with pytest.raises(OSError):
        ask(link)


def test_without_an_agent_a_job_whose_controller_died_gets_a_new_one(started: Any, tmp_path: Path) -> None:
    me = Controller.me()
    with Store.open(f"sqlite:///{tmp_path}/ugro.db") as store:
        link, process = started("dashboard", "--port", "0")
        assert "<h1>Cluster</h1>" in page_of(link)
        store.create_job("lost", users.me().user, {"name": "lost"})
        store.claim("lost", Controller(me.host, me.boot_id, 1, 1))  # another process has this number now
        store.set_job("lost", "running")
        assert until(lambda: store.job("lost").status == "failed", 120)
        assert "its controller ended" in store.job("lost").reason
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=60)
        assert (process.returncode, told) == (0, "")


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run(tmp_path, "dashboard", "--port", port)
    assert done.returncode == 9 and f"http://localhost:{port}" in done.stderr and "choose another --port" in done.stderr


def test_the_port_is_ours_on_every_address_of_localhost_or_not_at_all() -> None:
    """Who had the other address would be given the links of others."""
    port = free_port()
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            other = socket.create_server((address, port), family=family)
        except OSError:
            pytest.skip("this machine has no IPv6")
        with other, pytest.raises(OSError):
            loopback(port)
    sockets = loopback(port)
    assert [sock.getsockname()[:2] for sock in sockets] == [("127.0.0.1", port), ("::1", port)]
    with pytest.raises(OSError):
        loopback(port)  # nor can two have it that have not answered anybody yet
    for sock in sockets:
        sock.close()


def test_at_an_agent_it_is_the_agents(start: Serve, started: Any, tmp_path: Path) -> None:
    port = free_port()
    served = start(dashboard=port)
    link, process = started("dashboard", UGRO_AGENT=str(served.path))
    assert process.wait(60) == 0 and link.startswith(f"http://localhost:{port}/login?once=")
    assert "<h1>Cluster</h1>" in page_of(link)
    done = run(tmp_path, "dashboard", "--port", "1")
    assert done.returncode == 2 and "the agent has its own" in done.stderr


def test_an_agent_whose_port_somebody_has_says_so(start: Serve, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        start(dashboard=taken.getsockname()[1])
        done = run(tmp_path, "dashboard")
    assert done.returncode == 9 and "--dashboard PORT" in done.stderr


def test_from_another_machine_it_comes_through_a_tunnel(start: Serve, started: Any, tmp_path: Path) -> None:
    served = start(dashboard=free_port())
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "ssh").write_text(SSH.format(python=sys.executable))
    (programs / "ugro").write_text(f'#!/bin/sh\nexec {shlex.join(UGRO)} "$@"\n')
    for name in ("ssh", "ugro"):
        (programs / name).chmod(0o755)
    (tmp_path / ".profile").write_text(f"PATH={programs}:$PATH\n")
    path = f"{programs}:{os.environ['PATH']}"
    link, process = started("--master", "ob@master", "dashboard", "--open", PATH=path)
    parts = urlsplit(link)
    assert parts.hostname == "127.0.0.1" and parts.port != served.dashboard
    assert "<h1>Cluster</h1>" in page_of(link)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    with pytest.raises(OSError):
        ask(link)


def test_a_link_is_not_given_to_who_has_the_port_of_a_tunnel(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "ssh").write_text("""#!/bin/sh\necho '{"port": 8080, "path": "/login?once=code"}'\n""")
    (programs / "ssh").chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run(tmp_path, "--master", "ob@master", "dashboard", "--open", "--port", port, PATH=path)
    assert done.returncode == 9 and "choose another --port" in done.stderr and "once=" not in done.stdout


def test_a_master_without_an_agent_is_told_of(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "ssh").write_text("#!/bin/sh\necho 'ob@master: Permission denied (publickey).' >&2\nexit 255\n")
    (programs / "ssh").chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    done = run(tmp_path, "--master", "ob@master", "dashboard", "--open", PATH=path)
    assert done.returncode == 4 and "Permission denied" in done.stderr
