"""The cookie by which a browser says which session of the dashboard it is in."""

from __future__ import annotations

from fastapi import Request

COOKIE = "ugro_session"


def cookie_name(request: Request) -> str:
    """Return the cookie's name: browsers share cookies among all ports of a host, so it has the port in it."""
    port = request.url.port
    return f"{COOKIE}_{port}" if port else COOKIE


def key_of(request: Request) -> str | None:
    """Return the session's key that the browser sent."""
    return request.cookies.get(cookie_name(request))
