# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Uploads by somebody who means no good, on the real socket: bounded while they come, and nothing is left of them."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import http.client
import io
import json
import os
import socket
import tarfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import pytest

from tests.unit.api_server import Serve, Served, start  # noqa: F401 - a fixture
from ugro_py import paths
from ugro_py.api import client, guard, unix, uploads
from ugro_py.errors import RightsError, StateError, UsageError

HEAD = b"POST /v1/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-tar\r\n"


class Sender:
    """A client that sends what it likes, when it likes."""

    def __init__(self, served: Served, announced: int | None = None) -> None:
        self.connection = unix.connect(served.path, 60)
        length = b"Transfer-Encoding: chunked" if announced is None else b"Content-Length: %d" % announced
        self.connection.sendall(HEAD + length + b"\r\n\r\n")
        self.chunked = announced is None

    def send(self, data: bytes) -> None:
        self.connection.sendall(b"%x\r\n%s\r\n" % (len(data), data) if self.chunked else data)

    def answer(self) -> tuple[int, str]:
        """Return the status, and what came back; (0, "") where the agent hung up without a word."""
        with self.connection:
            response = http.client.HTTPResponse(self.connection)
            try:
                response.begin()
                error = json.loads(response.read())["error"]
            except (http.client.HTTPException, ConnectionResetError):
                return 0, ""
            return response.status, error["what"] + ": " + error["came_back"]


def kept() -> list[Path]:
    """Return the files that the agent has of uploads, in the store and without a name."""
    named = [path for path in paths.spool_inbox().rglob("*") if path.is_file()] if paths.spool_inbox().exists() else []
    here = Path("/proc/self/fd")
    links = [os.readlink(path) for path in here.iterdir() if path.is_symlink()]
    return named + [
        Path(link) for link in links if link.endswith("(deleted)") and link.startswith(str(paths.data_dir()))
    ]


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def served(start: Serve) -> Iterator[Served]:
    yield start()
    assert kept() == []


def tar(size: int = 10) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as made:
        member = tarfile.TarInfo("code/train.py")
        member.size = size
        made.addfile(member, io.BytesIO(b"x" * size))
        end = tarfile.TarInfo("end")
        end.type = tarfile.DIRTYPE
        made.addfile(end)
    stream.seek(0)
    return stream


def upload(served: Served, size: int = 10) -> str:
    stream = tar(size)
    return client.Client(served.path).upload(stream, len(stream.getvalue()))


def test_one_user_sends_only_so_many_at_once(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "TURN_S", 0.2)
    senders = [Sender(served) for _ in range(uploads.AT_ONCE)]
    for sender in senders:
        sender.send(b"x" * 2000)
    until(lambda: len(kept()) == len(senders))
    status, said = Sender(served, 1 << 30).answer()  # before anything of it was sent
    assert status == 403 and "already" in said
    for sender in senders:
        sender.connection.close()
    until(lambda: not kept())
    name = upload(served)  # there is a place again
    client.Client(served.path).submit({"name": "job", "script": "train.py"}, name)


def test_one_more_upload_waits_for_its_turn(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "TURN_S", 120.0)  # twelve take a while on a busy machine
    senders = [Sender(served) for _ in range(uploads.AT_ONCE)]
    for sender in senders:
        sender.send(b"x" * 2000)
    until(lambda: len(kept()) == len(senders))
    with ThreadPoolExecutor(12) as pool:  # as many as a loop of `ugro launch --detach` starts
        more = [pool.submit(upload, served) for _ in range(12)]
        time.sleep(0.3)
        assert not any(one.done() for one in more)
        for sender in senders:
            sender.connection.close()
        for number, one in enumerate(as_completed(more, 120)):
            client.Client(served.path).submit({"name": f"job-{number}", "script": "train.py"}, one.result())


def test_who_keeps_uploads_waiting_is_refused_before_sending(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MOST", 2)
    monkeypatch.setattr(uploads, "TURN_S", 0.2)
    names = [upload(served) for _ in range(2)]
    with pytest.raises(RightsError, match="uploads of"):
        upload(served, 4 << 20)  # the answer comes while it is still sent
    for number, name in enumerate(names):
        client.Client(served.path).submit({"name": f"job-{number}", "script": "train.py"}, name)
    client.Client(served.path).submit({"name": "job", "script": "train.py"}, upload(served))


def test_bytes_of_a_user_are_counted_as_they_come(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "USER_BYTES", 3 << 20)
    with pytest.raises(RightsError, match="may have"):
        upload(served, 4 << 20)  # announced
    sender = Sender(served)
    try:
        for _ in range(64):
            sender.send(b"\0" * (1 << 17))
    except (BrokenPipeError, ConnectionResetError):
        pass
    assert sender.answer()[0] in (403, 0)
    until(lambda: not kept())


def test_an_upload_larger_than_any_may_be_is_cut_off(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "UPLOAD_LIMIT", 1 << 20)
    assert Sender(served, 2 << 20).answer()[0] == 413
    sender = Sender(served)
    try:
        for _ in range(64):
            sender.send(b"\0" * (1 << 17))
    except (BrokenPipeError, ConnectionResetError):
        pass
    assert sender.answer()[0] in (413, 0)
    until(lambda: not kept())


def test_some_of_the_disk_stays_free(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [uploads.RESERVE_BYTES + (5 << 20), 10 << 30]
    monkeypatch.setattr(uploads, "room", lambda: tuple(left))
    with pytest.raises(StateError, match="no room"):
        upload(served, 3 << 20)  # would take twice that, with its files unpacked
    upload_name = upload(served, 1 << 20)
    client.Client(served.path).submit({"name": "job", "script": "train.py"}, upload_name)
    sender = Sender(served)  # not announced: seen as it comes
    try:
        for _ in range(64):
            sender.send(b"\0" * (1 << 17))
    except (BrokenPipeError, ConnectionResetError):
        pass
    assert sender.answer()[0] in (507, 0)
    until(lambda: not kept())
    left[:] = [19 << 30, 400 << 30]  # less than a twentieth of a large disk
    with pytest.raises(StateError, match=r"20\.0 GB of them stay so"):
        upload(served)


def test_who_sends_a_byte_now_and_then_is_hung_up_on(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "SENDER_TIMEOUT_S", 0.5)
    begun = time.monotonic()
    for head in (HEAD, HEAD.replace(b"uploads", b"jobs").replace(b"x-tar", b"json")):
        connection = unix.connect(served.path, 60)
        connection.sendall(head + b"Content-Length: 100000\r\n\r\n")
        with connection, pytest.raises((BrokenPipeError, ConnectionResetError)):
            while time.monotonic() < begun + 60:
                connection.sendall(b"x")
                time.sleep(0.1)
    assert time.monotonic() - begun < 60
    until(lambda: not kept())


def test_what_is_cut_off_or_no_archive_leaves_nothing(served: Served) -> None:
    data = tar(100_000).getvalue()
    sender = Sender(served, len(data))
    sender.send(data[:50_000])
    until(kept)
    sender.connection.shutdown(socket.SHUT_RDWR)
    sender.connection.close()
    until(lambda: not kept())
    for rubbish in (b"", b"x" * 5000, data[:20_480], nested(2000), large_header()):
        with pytest.raises(UsageError):
            client.Client(served.path).upload(io.BytesIO(rubbish), len(rubbish))
    assert kept() == []


def nested(count: int) -> bytes:
    """Return extended headers of extended headers: tarfile calls itself for each."""
    return tarfile.TarInfo._create_pax_generic_header({"comment": "x"}, tarfile.XHDTYPE, "utf-8") * count  # type: ignore[attr-defined]


def large_header() -> bytes:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 1 << 33
    return header.tobuf(tarfile.USTAR_FORMAT if header.size < 1 << 33 else tarfile.GNU_FORMAT) + b"x" * 100_000
