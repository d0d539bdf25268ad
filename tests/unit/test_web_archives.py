# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Archives and fields that a form brings along and that are made to take the agent's memory, disk or time."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import asyncio
import dataclasses
import io
import resource
import struct
import tarfile
import threading
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.unit.api_server import Served
from tests.unit.browser import Browser, browser, served, start  # noqa: F401 - fixtures
from tests.unit.launch_form import code_of, nothing_left, send, tarred, zipped
from tests.unit.web_jobs import words
from ugro_py import users
from ugro_py.api import uploads
from ugro_py.api.peer import Peer
from ugro_py.errors import UsageError
from ugro_py.web import security, sent_files, upload_form


def peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def bomb(kind: int, megabytes: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", kind) as pack, pack.open("a.py", "w") as file:
        for _ in range(megabytes):
            file.write(bytes(1 << 20))
    return stream.getvalue()


def long_listing(count: int) -> bytes:
    """A zip archive with a long list of files, whose end names its own middle the end."""
    head = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)
    listing = (head + b"a") * count
    first = zipped(("a", b""))[:31]
    return first + listing + struct.pack("<4sHHHHLLH", b"PK\5\6", 0x4B50, 0x0605, 0, 0, len(listing), 0, 0)


def negative() -> bytes:
    """A tar archive that leads back to its beginning again and again."""
    whole = bytearray(tarred(("a", bytes(1 << 20)), ("b", b""), mode="w"))
    second = whole.index(b"b" + bytes(99))
    size = -(second + tarfile.BLOCKSIZE)
    whole[second + 124 : second + 136] = b"\xff" + (256**11 + size).to_bytes(11, "big")
    whole[second + 148 : second + 156] = b" " * 8
    whole[second + 148 : second + 156] = b"%06o\0 " % sum(whole[second : second + 512])
    return bytes(whole)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (bomb(zipfile.ZIP_BZIP2, 700), "rare way"), (bomb(zipfile.ZIP_LZMA, 700), "rare way"),
        (long_listing(100_000), "more than 1000 files"), (negative(), "no plain file"),
    ],
    ids=["bzip2", "lzma", "listing", "negative"],
)  # fmt: skip
def test_an_archive_that_takes_all_memory(content: bytes, said: str, tmp_path: Path) -> None:
    before = peak_mb()
    with pytest.raises(UsageError) as error:
        sent_files.gather(sent_files.Sent(archive=[("x", io.BytesIO(content))]), tmp_path)
    assert said in str(error.value)
    assert peak_mb() - before < 300


def test_a_tar_archive_that_ends_with_a_zip_archive_is_one(tmp_path: Path) -> None:
    content = tarred(("main.py", b""), ("data.zip", zipped(("inner.py", b""))), mode="w")
    assert sent_files.gather(sent_files.Sent(archive=[("x", io.BytesIO(content))]), tmp_path) == "main.py"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.zip", "main.py"]


def test_files_are_unpacked_only_in_their_users_turn(
    browser: Browser, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    gathered = []
    monkeypatch.setattr(uploads, "TURN_S", 0.0)
    monkeypatch.setattr(upload_form, "gather", lambda *given: gathered.append(given))
    with ExitStack() as stack:
        for _ in range(uploads.AT_ONCE):
            stack.enter_context(served.app.state.submissions.uploads.receive(users.me().user, 0))
        answer = send(browser, {"name": "many"}, [("script", "a.py", b"")])
    assert "wait for one to end" in words(answer.text)
    assert not gathered and nothing_left(served)


def test_a_field_that_would_take_long_is_refused(browser: Browser, served: Served) -> None:
    answer = send(browser, {"name": "long", "args": "a" * (1 << 19)})
    assert answer.status == 400 and "more than 32768 characters" in words(answer.text)
    assert nothing_left(served)


def test_forms_are_read_beside_the_agents_loop(
    browser: Browser, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, parse = [], security.parse_qsl

    def noted(text: str, **options: Any) -> list[tuple[str, str]]:
        threads.append(threading.current_thread())
        return parse(text, **options)

    monkeypatch.setattr(security, "parse_qsl", noted)
    assert browser.send("/theme", {"theme": "dark"}).status == 303
    assert browser.send("/launch", {"name": "No name"}).status == 400
    assert len(threads) == 2 and served._thread not in threads


def test_what_is_left_empty_is_the_inventorys_as_in_ugro_launch(browser: Browser, served: Served) -> None:
    cluster = served.agent.cluster
    served.agent.cluster = dataclasses.replace(
        cluster, settings=dataclasses.replace(cluster.settings, retry=3),
        training=dataclasses.replace(cluster.training, epochs=7),
    )  # fmt: skip
    assert send(browser, {"name": "usual", "hold": "yes", "epochs": ""}).status == 303
    assert send(browser, {"name": "own", "hold": "yes"}, [("script", "a.py", b"")]).status == 303
    asked = served.agent.store.job("usual").request
    assert (asked["retry"], asked["epochs"]) == (3, 7)
    assert served.agent.store.job("own").request["retry"] == 3 and code_of("own") == {"a.py": b""}


@pytest.mark.parametrize("path", ["/theme", "/launch"])
def test_a_form_that_is_broken_off_is_no_error_of_the_agent(path: str, browser: Browser, served: Served) -> None:
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    headers = {"host": f"localhost:{browser.port}", "origin": f"http://localhost:{browser.port}", "cookie": cookie,
               "accept": "text/html", "content-type": "application/x-www-form-urlencoded"}  # fmt: skip
    scope = {"type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "path": path,
             "query_string": b"", "server": ("localhost", browser.port), "state": {"peer": Peer(None, None)},
             "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}  # fmt: skip
    sent, parts = [], [{"type": "http.request", "body": b"text=a", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> dict[str, Any]:
        return parts.pop(0)

    async def send_on(message: Any) -> None:
        sent.append(message)

    asyncio.run(served.app(scope, receive, send_on))
    assert sent[0]["status"] == 400 and not parts
