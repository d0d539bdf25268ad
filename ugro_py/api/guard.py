"""What every request must pass before a route sees it: its host and origin, its size, and a reader that keeps up."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping, Set
from typing import Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

BODY_LIMIT = 1 << 20
"""Bytes of a request's body where nothing is uploaded."""
UPLOAD_LIMIT = 2 << 30
"""Bytes of an upload: the code of a job, and a data set that is not on the nodes."""
UPLOADS = "application/x-tar"
FORM_LIMIT = 65 << 20
"""Bytes of the dashboard's form that brings the files of a job along."""
FORM_READ_LIMIT = 1 << 30
"""Bytes of that form where it says its length: what is too much is read too, so that what was typed comes back."""
_FORM = ("/launch", "multipart/form-data")
READER_TIMEOUT_S = 30.0
"""A reader that takes nothing for so long is hung up on; the agent waits for nobody."""
SENDER_TIMEOUT_S = 30.0
"""A sender that gives nothing for so long is hung up on; so is one who after that time has not sent, on the whole,"""
SENDER_BYTES_PER_S = 16 << 10
"""so many bytes a second: who sends one now and then would hold a place for days."""
_NO_PAGES = ("/v1/", "/metrics", "/static/", "/live/")
"""No page of the dashboard begins with one of these."""
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1", "ugro")


class Guard:
    """ASGI middleware in front of the application.

    Args:
        app: what it protects.
        hosts: names under which the API may be asked, without ports; names may be added as doors are opened. A page
            of another site that makes its name point here (DNS rebinding) is refused by its `Host`, on every method.
            The address that was connected to is known too: no other site can be called that.
    """

    def __init__(self, app: App, hosts: Set[str]) -> None:
        self.app = app
        self.hosts = hosts

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Refuse the request, or hand it on with limits."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        # (address, port) over TCP; IPv4 on an IPv6 socket has a prefix that nobody asks by
        server = str((scope.get("server") or ("",))[0]).removeprefix("::ffff:")
        limit = _limit(scope["path"], headers)
        refused = self._refused(headers, server, _is_visit(scope, headers), limit)
        if refused is not None:
            await _answer(send, *refused)
            return
        hang_up = scope.get("state", {}).get("hang_up")
        await self.app(scope, _limited(receive, limit, hang_up), _timed(send, hang_up))

    def _refused(self, headers: dict[str, str], server: str, visit: bool, limit: int) -> tuple[int, str] | None:
        if not self._known(f"//{headers.get('host', '')}", server):
            return 421, f"the host {headers.get('host', '')!r:.80} is not served here"
        origin = headers.get("origin")
        if origin is not None and not self._known(origin, server):
            return 403, f"pages of {origin!r:.80} may not use this API"
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not visit:
            return 403, "pages of other sites may not use this API"
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit():
            return 400, "Content-Length is no number"
        if int(length) > limit:
            return 413, f"the body has {length} bytes, {limit} are taken"
        return None

    def _known(self, url: str, server: str) -> bool:
        try:
            name = urlsplit(url).hostname
        except ValueError:
            return False
        return bool(name) and (name in self.hosts or name == server)


def _is_visit(scope: MutableMapping[str, Any], headers: dict[str, str]) -> bool:
    """Say whether a person opens a page of the dashboard, by a link on a page of another site for example.

    The other site sees nothing of what comes: the page is a tab of its own, never a frame, and is cut off from the
    one that opened it (`ugro_py.web.security`). No page changes anything when it is opened; a one-time link, which
    does, refuses such visits itself. No script can make a browser send these headers.
    """
    opened = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("navigate", "document")
    return scope["method"] == "GET" and opened and not scope["path"].startswith(_NO_PAGES)


def _limit(path: str, headers: dict[str, str]) -> int:
    kind = headers.get("content-type", "").split(";")[0].strip()
    if (path, kind) == _FORM:
        return FORM_READ_LIMIT if "content-length" in headers else FORM_LIMIT
    return UPLOAD_LIMIT if kind == UPLOADS else BODY_LIMIT


def _limited(receive: Receive, limit: int, hang_up: Callable[[], None] | None) -> Receive:
    """Count what comes, whatever the headers promised, and wait for the next part only so long."""
    seen = 0
    whole = False
    begun = time.monotonic()

    async def limited() -> Message:
        nonlocal seen, whole
        if whole:
            return await receive()  # what follows is only the end of the connection
        left = begun + SENDER_TIMEOUT_S + seen / SENDER_BYTES_PER_S - time.monotonic()
        try:
            async with asyncio.timeout(min(max(left, 0.0), SENDER_TIMEOUT_S)):
                message = await receive()
        except TimeoutError:
            if hang_up:
                hang_up()
            return {"type": "http.disconnect"}
        seen += len(message.get("body", b""))
        whole = not message.get("more_body", False)
        if seen > limit:
            raise HTTPException(413, f"the body has more than {limit} bytes")
        return message

    return limited


def _timed(send: Send, hang_up: Callable[[], None] | None) -> Send:
    """Hang up on a reader that takes nothing: what is sent to it waits in its own task only, and not for ever."""

    async def timed(message: Message) -> None:
        try:
            async with asyncio.timeout(READER_TIMEOUT_S):  # `wait_for` makes a task of its own each time
                await send(message)
        except TimeoutError:
            if hang_up:
                hang_up()

    return timed


def error_body(what: str, came_back: str = "", next_step: str = "", exit_code: int = 2) -> dict[str, Any]:
    """Return the body of an answer that is an error, as the client turns it into one of `ugro_py.errors` again."""
    return {"error": {"what": what, "came_back": came_back, "next_step": next_step, "exit_code": exit_code}}


async def _answer(send: Send, status: int, text: str) -> None:
    body = json.dumps(error_body(text)).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
