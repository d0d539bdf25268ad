# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Nobody can take all connections: real sockets of real accounts at a real server."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import functools
import http.client
import json
import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.unit.api_server import Serve, Served, start  # noqa: F401 - a fixture
from tests.unit.browser import Browser, browser, served  # noqa: F401 - fixtures
from tests.unit.test_web_live import until
from ugro_py.api import peer, unix
from ugro_py.api.client import Client
from ugro_py.api.other_end import owner_of_other_end
from ugro_py.api.peer import MOST_CONNECTIONS, MOST_LOCAL, PeerProtocol
from ugro_py.api.server import Listen
from ugro_py.errors import StateError

TOKEN = "t" * 24
PYTHON = "/usr/bin/python3"
# Opens connections as long as it may, asks something over each so that they stay, and says how many were taken.
GREEDY = """
import socket, sys
address, port, most = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
kept = []
for number in range(most):
    one = socket.create_connection((address, port), 60)
    one.sendall(b"GET /static/app.css HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
    if b" 200 " not in one.recv(30):
        break
    kept.append(one)
print(len(kept), flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow this machine is: no connection is hung up on before the last is made."""
    monkeypatch.setattr(peer, "HEADER_TIMEOUT_S", 300.0)


def account(name: str) -> list[str]:
    """What runs a command as another account; skips where that cannot be done."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None or not Path(PYTHON).exists():
        pytest.skip("needs root, setpriv of util-linux, and a Python that others may run")
    entry = pwd.getpwnam(name)
    return ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]


@contextmanager
def greedy(name: str, address: str, port: int, most: int) -> Iterator[int]:
    """A process of another account that holds as many connections as it can get; gives how many those are."""
    words = [*account(name), PYTHON, "-c", GREEDY, address, str(port), str(most)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/")
    try:
        assert process.stdout
        yield int(process.stdout.readline() or -1)
    finally:
        process.communicate("", timeout=60)


def test_the_kernel_knows_whose_the_other_end_is() -> None:
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.create_server((address, 0), family=family) as listener:
            words = [*account("nobody"), PYTHON, "-c", "import socket, sys\n"
                     "one = socket.create_connection((sys.argv[1], int(sys.argv[2])))\nsys.stdin.read()"]  # fmt: skip
            port = str(listener.getsockname()[1])
            process = subprocess.Popen([*words, address, port], stdin=subprocess.PIPE, cwd="/")
            taken, _ = listener.accept()
            with taken, socket.create_connection((address, int(port))) as own:
                mine, _ = listener.accept()
                assert owner_of_other_end(taken) == pwd.getpwnam("nobody").pw_uid
                assert owner_of_other_end(mine) == os.geteuid()
                process.communicate(b"", timeout=60)
                # Nobody's any more: the kernel would call it root's.
                assert until(functools.partial(lambda gone: owner_of_other_end(gone) is None, taken))
                own.close()
                mine.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_one_account_cannot_keep_others_from_the_dashboard(served: Served, browser: Browser, address: str) -> None:
    with greedy("nobody", address, served.dashboard, 2 * MOST_LOCAL) as held:
        assert held == MOST_LOCAL
        with greedy("daemon", address, served.dashboard, 10) as others:
            assert others == 10
        with ExitStack() as stack:
            for _ in range(50):
                assert stack.enter_context(browser.opened("GET", "/")).status == 200
    assert until(lambda: PeerProtocol.counts[("local", pwd.getpwnam("nobody").pw_uid)] == 0)


def test_accounts_at_the_address_of_this_machine_are_told_from_each_other(start: Serve, tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but its loopback")
        address = str(probe.getsockname()[0])
    tokens = tmp_path / "tokens"
    tokens.touch(0o600)
    tokens.write_text(f"nobody {TOKEN}\n")
    port = free_port()
    start(Listen.parse(f"{address}:{port}", tokens, plain=True))
    with greedy("nobody", address, port, 2 * MOST_LOCAL) as held, greedy("daemon", address, port, 10) as others:
        assert (held, others) == (MOST_LOCAL, 10)


def test_who_has_too_many_is_told_so(start: Serve) -> None:
    served = start(dashboard=free_port())
    with ExitStack() as stack:
        for _ in range(MOST_LOCAL):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", served.dashboard), 60))
            one.sendall(b"GET /static/app.css HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b" 200 " in one.recv(30)
        for _ in range(3):
            connection = http.client.HTTPConnection("127.0.0.1", served.dashboard, timeout=60)
            connection.request("GET", "/")
            answer = connection.getresponse()
            assert answer.status == 503 and answer.headers["retry-after"]
            assert "too many" in json.loads(answer.read())["error"]["came_back"]
            connection.close()
        assert Client(served.path).get("/v1/me")["door"] == "socket"  # another door, another count
    assert until(lambda: PeerProtocol.counts[("local", os.geteuid())] == 0)
    assert Browser(served).get("/login").status == 200


def test_a_verb_that_finds_the_socket_full_says_why(start: Serve) -> None:
    served = start()
    with ExitStack() as stack:
        for _ in range(MOST_CONNECTIONS):
            stack.enter_context(unix.connect(served.path, 60)).sendall(b"GET /v1/me HTTP/1.1\r\nHost: ugro\r\n\r\n")
        assert until(lambda: PeerProtocol.counts[("uid", os.geteuid())] == MOST_CONNECTIONS)
        with pytest.raises(StateError, match="too many open already"):
            Client(served.path).get("/v1/me")
    assert until(lambda: PeerProtocol.counts[("uid", os.geteuid())] == 0)
    assert Client(served.path).get("/v1/me")
