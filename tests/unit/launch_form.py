# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What tests of the form Launch share: sending it as a browser does, and files and archives to send with it."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from collections.abc import Mapping, Sequence

from tests.unit.api_server import Served
from tests.unit.browser import Answer, Browser, hidden
from ugro_py import paths
from ugro_py.queue import spool

Files = Sequence[tuple[str, str, bytes]]


def send(browser: Browser, form: Mapping[str, str], files: Files = (), token: str = "", **headers: str) -> Answer:
    """Send the form as a browser does that has files to send: field, name and content of each."""
    token = token or hidden(browser.get("/launch").text, "csrf")
    body = bytearray()
    for name, value in {"csrf": token, **form}.items():
        body += f'--end\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
    for name, file, content in files:
        given = file.replace('"', "%22").encode()
        body += b'--end\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\n' % (name.encode(), given)
        body += b"Content-Type: application/octet-stream\r\n\r\n" + content + b"\r\n"
    body += b"--end--\r\n"
    said = {"origin": f"http://localhost:{browser.port}", "sec_fetch_site": "same-origin",
            "content_type": "multipart/form-data; boundary=end", **headers}  # fmt: skip
    return browser.ask("POST", "/launch", bytes(body), **said)  # type: ignore[arg-type]


def code_of(job: str) -> dict[str, bytes]:
    """Return the files of a job as they were submitted."""
    content = spool.load(job).code
    return {name: (content.root / name).read_bytes() for name in content.files}


def zipped(*members: tuple[str, bytes], mode: int = 0o644, kind: int = stat.S_IFREG) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = (kind | mode) << 16
            pack.writestr(info, content, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def tarred(*members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE, link: str = "", mode: str = "w:gz") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as pack:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, len(content)
            pack.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def nothing_left(served: Served) -> bool:
    return not served.agent.store.jobs() and list(paths.spool_inbox().glob("*")) == []
