"""What pages of other sites cannot do here: headers of every answer, and where a form must come from."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from ugro_py.api.guard import BODY_LIMIT, App, Message, Receive, Send
from ugro_py.errors import RightsError, UsageError
from ugro_py.web.session import forgery_token

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # with none at all browsers would not say where a form comes from (Origin: null)
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_MOST_FIELDS = 100
FORGERY_HEADER = "x-csrf-token"


class Headers:
    """ASGI middleware: headers that every answer has, and no copy of a page in any cache."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Hand the request on, and add to the answer what is not there."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                have = {name.lower() for name, _ in message.get("headers", ())}
                added = [(n.encode(), v.encode()) for n, v in HEADERS.items() if n.encode() not in have]
                if b"cache-control" not in have:
                    added.append((b"cache-control", b"no-store"))
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        await self.app(scope, receive, with_headers)


class StaleFormError(RightsError):
    """A form comes from a page of this host and port, but not of this session; `fields` is what somebody typed."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__("this form", "its page is out of date", "load the page again, and send it from there")
        self.fields = fields


async def read_form(request: Request) -> Mapping[str, str]:
    """Return the fields of a form that one of our own pages sent.

    Raises:
        RightsError: it comes from elsewhere: another origin.
        StaleFormError: it has not the token that only pages of this session know.
        UsageError: it is no form.
    """
    form = dict(await fields_of(request))
    given = request.headers.get(FORGERY_HEADER) or form.get("csrf", "")
    form.pop("csrf", None)
    if not hmac.compare_digest(given.encode("utf-8", "replace"), forgery_token(request).encode()):
        raise StaleFormError(form)
    return form


async def fields_of(request: Request) -> Mapping[str, str]:
    """Return the fields of a form that was sent from this host and port, whoever it is that sends it.

    Raises:
        RightsError: it comes from elsewhere.
        UsageError: it is no form.
    """
    check_origin(request)
    if request.headers.get("content-type", "").split(";")[0].strip() != "application/x-www-form-urlencoded":
        raise UsageError("this form", "is not application/x-www-form-urlencoded", "use the form of the page")
    body = await request.body()
    try:
        # In a thread: 1 MB of escapes takes a second.
        fields = await run_in_threadpool(
            parse_qsl, body.decode("utf-8"), keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict"
        )
    except ValueError as error:
        raise UsageError("this form", str(error), "use the form of the page") from error
    return dict(fields)


async def typed_fields(request: Request) -> Mapping[str, str]:
    """Return what somebody typed into a form of ours, without what it brings along; see `fields_of` for its errors."""
    if request.headers.get("content-type", "").split(";")[0].strip() != "multipart/form-data":
        return await fields_of(request)
    check_origin(request)
    length = request.headers.get("content-length", "")
    if not length.isdigit() or int(length) > BODY_LIMIT:  # of somebody unknown
        raise UsageError("this form", "is too long to be shown again", "sign in, and send it anew")
    try:
        async with request.form(max_fields=_MOST_FIELDS) as form:
            return {name: value for name, value in form.multi_items() if isinstance(value, str)}
    except HTTPException as error:
        raise UsageError("this form", str(error.detail), "use the form of the page") from error


def check_origin(request: Request) -> None:
    """Raise RightsError unless a request that changes something comes from a page of ours: this host and port.

    A browser says so in `Origin` or `Sec-Fetch-Site`; who says neither is no browser with somebody's cookie.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    same = site in (None, "same-origin") and (site is not None or origin is not None)
    if origin is not None:
        same = same and _is_same(request, origin)
    if not same:
        raise RightsError("this request", "it does not come from a page of this dashboard", "open the page here")


def _is_same(request: Request, origin: str) -> bool:
    try:
        there = urlsplit(origin)
        return (there.scheme, there.netloc) == (request.url.scheme, request.headers.get("host", ""))
    except ValueError:
        return False


def local_path(text: str, otherwise: str = "/") -> str:
    """Return an address of this dashboard to go on to, `otherwise` for anything that could lead elsewhere."""
    plain = text.isascii() and text.isprintable() and "\\" not in text and " " not in text
    if not plain or not text.startswith("/") or text.startswith("//") or len(text) > 2000:
        return otherwise
    return text


Form = Annotated[Mapping[str, str], Depends(read_form)]


def refuse_foreign_navigation(request: Request, *, ours: bool = True) -> None:
    """Raise 403 where a page of another site sent the browser here: for addresses that do something on GET.

    Args:
        ours: a page of this dashboard may; else only somebody who opens the address themselves.
    """
    allowed = ("none", "same-origin") if ours else ("none",)
    if request.headers.get("sec-fetch-site", "none") not in allowed:
        raise HTTPException(403, "a page of another site led here; open the link yourself")
