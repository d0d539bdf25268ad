# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The API over TLS, with a real `ugro agent --listen` and a certificate of its own."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.support import wait_until
from tests.ports import free_port
from ugro_py.api.server import Listen
from ugro_py.errors import UsageError

TOKEN = "t" * 24
UGRO = Path(sys.executable).with_name("ugro")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for this machine, signed by itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "2", "-subj", "/CN=ugro", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-keyout", str(key), "-out", str(certificate),
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


@pytest.fixture(scope="module")
def port(pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an agent that listens beyond this machine."""
    folder = tmp_path_factory.mktemp("agent")
    tokens = folder / "tokens"
    tokens.touch(0o600)
    tokens.write_text(f"nobody-here {TOKEN}\n")
    found = free_port()
    env = {key: value for key, value in os.environ.items() if not key.startswith("UGRO_")}
    env |= {"HOME": str(folder), "UGRO_DATA": str(folder / "data")}
    argv = [
        str(UGRO), "agent", "--listen", f"0.0.0.0:{found}", "--token-file", str(tokens),
        "--tls-cert", str(pair[0]), "--tls-key", str(pair[1]), "--host-name", "ugro.example",
    ]  # fmt: skip
    log = folder / "log"
    with log.open("wb") as told, subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stderr=told) as agent:
        try:
            there = folder / "data" / "agent.sock"
            wait_until(lambda: there.exists() or agent.poll() is not None, "the agent listens", 60)
            wait_until(lambda: agent.poll() is not None or listens(found), "it listens on TCP too", 60)
            assert agent.poll() is None, log.read_text()
            yield found
        finally:
            agent.terminate()
            agent.wait(30)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except OSError:
        return False
    return True


def ask(port: int, certificate: Path, address: str = "localhost", **headers: str) -> tuple[int, Any]:
    context = ssl.create_default_context(cafile=str(certificate))
    connection = http.client.HTTPSConnection("localhost", port, timeout=20, context=context)
    if address != "localhost":  # the certificate is for that alone
        connection.sock = context.wrap_socket(
            socket.create_connection((address, port), 20), server_hostname="localhost"
        )
    try:
        connection.request("GET", "/v1/me", headers=headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_https_answers_whoever_has_a_token(port: int, pair: tuple[Path, Path]) -> None:
    status, me = ask(port, pair[0], Authorization=f"Bearer {TOKEN}")
    assert (status, me["user"], me["door"], me["admin"]) == (200, "nobody-here", "tcp", False)
    for wrong in ({}, {"Authorization": "Bearer x"}, {"Authorization": f"Bearer {TOKEN}x"}):
        status, said = ask(port, pair[0], **wrong)
        assert status == 401 and "token" in said["error"]["came_back"], (wrong, said)


def test_it_is_asked_under_its_names_and_its_address(port: int, pair: tuple[Path, Path]) -> None:
    right = {"Authorization": f"Bearer {TOKEN}"}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        try:
            out.connect(("192.0.2.77", 9))  # sends nothing
            own = out.getsockname()[0]
        except OSError:  # no network
            own = "127.0.0.2"
    for name in (f"{own}:{port}", socket.gethostname(), "UGRO.example"):
        assert ask(port, pair[0], address=own, Host=name, **right)[0] == 200, name
    for name in ("evil.example", "127.0.0.3", ""):
        assert ask(port, pair[0], address=own, Host=name, **right)[0] == 421, name
    assert ask(port, pair[0], Origin=f"https://{own}", **right)[0] == 403


def test_without_tls_nothing_is_answered(port: int) -> None:
    connection = http.client.HTTPConnection("localhost", port, timeout=20)
    connection.request("GET", "/v1/me", headers={"Authorization": f"Bearer {TOKEN}"})
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        connection.getresponse()
    connection.close()


def test_a_client_that_knows_no_such_certificate_refuses(port: int) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        ssl.create_default_context().wrap_socket(
            socket.create_connection(("localhost", port), 20), server_hostname="localhost"
        )


def test_tls_options_that_would_do_nothing_are_refused(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError, match="--tls-cert"):
        Listen.parse("127.0.0.1:7070", tmp_path / "tokens", key=pair[1])
    with pytest.raises(UsageError, match="--plain-http"):
        Listen.parse("127.0.0.1:7070", tmp_path / "tokens", certificate=pair[0], key=pair[1], plain=True)
    env = {**os.environ, "HOME": str(tmp_path), "UGRO_DATA": str(tmp_path / "data")}
    argv = [str(UGRO), "agent", "--tls-cert", str(pair[0]), "--tls-key", str(pair[1])]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2 and "--listen" in done.stderr, done.stderr


def test_a_certificate_that_cannot_be_used_ends_the_agent_with_a_reason(
    tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    tokens = tmp_path / "tokens"
    tokens.touch(0o600)
    tokens.write_text(f"nobody-here {TOKEN}\n")
    (tmp_path / "no.pem").write_text("no certificate\n")
    env = {key: value for key, value in os.environ.items() if not key.startswith("UGRO_")}
    env |= {"HOME": str(tmp_path), "UGRO_DATA": str(tmp_path / "data")}
    argv = [
        str(UGRO), "agent", "--listen", "127.0.0.1:0", "--token-file", str(tokens),
        "--tls-cert", str(tmp_path / "no.pem"), "--tls-key", str(pair[1]),
    ]  # fmt: skip
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode not in (0, 1) and "TLS certificate" in done.stderr, done.stderr
