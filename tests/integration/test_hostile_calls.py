# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Hostile calls of the agent's socket: links, hosts, huge bodies, uploads, readers that do not read."""

from __future__ import annotations

import http.client
import io
import os
import socket
import tarfile
import threading
import time
from contextlib import suppress

import pytest

from tests.integration.two_users import ALICE, MALLORY, Master, needs_accounts
from ugro_py.api import client
from ugro_py.api.peer import HEADER_TIMEOUT_S, MOST_CONNECTIONS
from ugro_py.errors import UgroError

pytestmark = needs_accounts
pytest_plugins = ["tests.integration.two_users"]


def test_links_in_a_job_are_never_followed(master: Master, job: str) -> None:
    root = master.data / "jobs" / job
    (root / "checkpoints").mkdir(exist_ok=True)
    (root / "logs").mkdir(exist_ok=True)
    (root / "checkpoints" / "shadow").symlink_to("/etc/shadow")
    (root / "checkpoints" / "etc").symlink_to("/etc")
    os.mkfifo(root / "checkpoints" / "pipe")
    (root / "checkpoints" / "real.pt").write_bytes(b"weights")
    listed = {entry["path"] for entry in master.ask(MALLORY, "GET", f"/v1/jobs/{job}/files")[1]}
    assert "checkpoints/real.pt" in listed
    assert not listed & {"checkpoints/shadow", "checkpoints/etc/passwd", "checkpoints/pipe"}
    assert master.ask(MALLORY, "GET", f"/v1/jobs/{job}/files/checkpoints/real.pt") == (200, "weights")
    for name in (
        "checkpoints/shadow", "checkpoints/etc/passwd", "checkpoints/pipe", "checkpoints",
        "checkpoints/../../../ugro.db",
        "..%2f..%2fugro.db", "%2e%2e/%2e%2e/ugro.db", "/etc/passwd", "checkpoints/%00",
        "spool/manifest.json", "cluster.json",
    ):  # fmt: skip
        status, answer = master.ask(MALLORY, "GET", f"/v1/jobs/{job}/files/{name}")
        assert status == 404, (name, answer)


def test_hosts_origins_and_huge_bodies_are_refused(master: Master) -> None:
    for method in ("GET", "POST", "HEAD", "OPTIONS", "PUT"):
        assert master.ask(MALLORY, method, "/v1/me", headers={"Host": "evil.example"})[0] == 421
        assert master.ask(MALLORY, method, "/v1/me", headers={"Origin": "http://evil.example"})[0] == 403
    assert master.ask(MALLORY, "POST", "/v1/jobs", None, {"Content-Length": str(10 << 30)})[0] == 413
    tar = {"Content-Type": "application/x-tar", "Content-Length": str(10 << 30)}
    assert master.ask(MALLORY, "POST", "/v1/uploads", None, tar)[0] == 413


def test_an_upload_belongs_to_who_sent_it(master: Master) -> None:

    def tar(*members: tuple[str, bytes | str]) -> bytes:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for name, content in members:
                info = tarfile.TarInfo(name)
                if isinstance(content, str):
                    info.type, info.linkname = tarfile.SYMTYPE, content
                    archive.addfile(info)
                else:
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
            end = tarfile.TarInfo("end")
            end.type = tarfile.DIRTYPE
            archive.addfile(end)
        return stream.getvalue()

    from ugro_py.api import client

    mine = client.Client(master.socket)
    for bad in (tar(("code/x", "/etc/shadow")), tar(("../../x", b"")), tar(("code/a", "b"), ("code/a/c", b""))):
        with pytest.raises(UgroError):
            mine.upload(io.BytesIO(bad), len(bad))
    good = tar(("code/train.py", b"print(1)\n"))
    name = mine.upload(io.BytesIO(good), len(good))
    request = {"name": "stolen", "script": "train.py", "hold": True}
    status, answer = master.ask(ALICE, "POST", "/v1/jobs", {"request": request, "upload": name})
    assert status == 404, answer
    assert mine.submit({**request, "name": "mine"}, name)["status"] == "pending"
    assert (master.data / "jobs" / "mine" / "spool" / "code" / "train.py").read_bytes() == b"print(1)\n"


def test_readers_that_do_not_read_and_callers_that_do_not_ask_stop_nobody(master: Master) -> None:
    held = []
    try:
        for number in range(MOST_CONNECTIONS + 12):
            connection = socket.socket(socket.AF_UNIX)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            connection.connect(str(master.socket))
            held.append(connection)
            with suppress(BrokenPipeError, ConnectionResetError):
                if number % 2:
                    connection.sendall(b"GET /v1/events/stream?after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
                else:
                    connection.sendall(b"GET /v1/events")
        # Events for the readers to leave unread.
        with master.store() as store:
            for number in range(400):
                store.add_event("noise", f"{number} " + "x" * 2000)
        worst = 0.0
        for _ in range(20):
            begin = time.monotonic()
            assert master.ask(ALICE, "GET", "/v1/jobs")[0] == 200
            worst = max(worst, time.monotonic() - begin)
        assert worst < 5.0
        for connection in held:
            connection.settimeout(2 * HEADER_TIMEOUT_S)
        heads = [_first_line(connection) for connection in held]
        # Who reads slowly has an answer, who never ends a request is hung up on, and who comes too often is told so.
        assert heads[1:MOST_CONNECTIONS:2] == [b"HTTP/1.1 200 OK"] * (MOST_CONNECTIONS // 2)
        assert heads[:MOST_CONNECTIONS:2] == [b""] * (MOST_CONNECTIONS // 2)
        assert set(heads[MOST_CONNECTIONS:]) <= {b"HTTP/1.1 503 Service Unavailable", b""}
    finally:
        for connection in held:
            connection.close()
    assert master.agent.poll() is None


def _first_line(connection: socket.socket) -> bytes:
    """Return the first line of an answer; nothing from who hung up."""
    head = b""
    with suppress(ConnectionResetError):
        while b"\r\n" not in head and (part := connection.recv(64)):
            head += part
    return head.partition(b"\r\n")[0]


def test_events_go_on_where_a_reader_was_cut_off(master: Master) -> None:

    mine = client.Client(master.socket)
    with master.store() as store:
        store.add_event("first", "one")
        after = store.newest_event()
    seen: list[str] = []

    def read() -> None:
        for event in mine.events(after=after):
            seen.append(event["data"]["kind"])
            if event["data"]["kind"] == "third":
                return

    reader = threading.Thread(target=read)
    reader.start()
    with master.store() as store:
        store.add_event("second", "two")
        time.sleep(0.5)
        store.add_event("third", "three")
    reader.join(60)
    wanted = [kind for kind in seen if kind in ("first", "second", "third")]
    assert wanted == ["second", "third"]


def test_figures_for_prometheus(master: Master) -> None:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)  # type: ignore[assignment]
    connection.sock.connect(str(master.socket))
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    assert 'ugro_jobs{status="pending"}' in text
    assert 'ugro_agent_round_seconds_count{loop="schedule"}' in text
    resident = next(float(line.split()[1]) for line in text.splitlines() if line.startswith("process_resident_memory"))
    assert resident < 150e6
