"""Makes HTML of templates: everything a template shows is text, unless it is another template."""

from __future__ import annotations

import functools
import hashlib
import secrets
from collections.abc import Collection
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fastapi import Request
from starlette.responses import HTMLResponse

from ugro_py import __version__, paths
from ugro_py.display import duration, number, plain_line

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

THEMES = ("auto", "light", "dark")
THEME_COOKIE = "ugro_theme"
FORGERY_PLACE = f"forgery-token-{secrets.token_hex(16)}"
"""Stands in fragments that several people get; each is sent with their own token in its place."""
MENU = (
    ("/", "Cluster"),
    ("/experiments", "Experiments"),
    ("/compare", "Compare"),
    ("/queue", "Queue"),
    ("/health", "Health"),
    ("/events", "Events"),
)


@functools.cache
def environment() -> Environment:
    """Return the environment of the dashboard's templates."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(paths.web_templates()),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(static=static_url, menu=MENU, version=__version__, themes=THEMES)
    made.filters.update(
        duration=duration,
        number=number,
        line=_line,
        ticks=_ticks,
        path=_path,
        when=_when,
        iso=_iso,
        ident=ident,
    )
    return made


def render(request: Request, name: str, status: int = 200, **context: Any) -> HTMLResponse:
    """Return the page (or part of one) that a template makes.

    Args:
        request: what is answered. `request.state.viewer` is who looks, where somebody is known.
        name: the template's file name.
        status: of the answer.
        context: what the template shows; a page needs `title`. It goes before what every page knows.
    """
    return HTMLResponse(html(name, **{**page_context(request), **context}), status)


def html(name: str, **context: Any) -> str:
    """Return the text that a template makes."""
    return environment().get_template(name).render(**context)


def page_context(request: Request) -> dict[str, Any]:
    """Return what every page knows: who looks, where it is, the theme, the token for forms, what was just done."""
    from ugro_py.web.session import forgery_token, session_of

    session = session_of(request)

    def take_notices(place: str | None = None, but: Collection[str] = ()) -> list[tuple[str, str]]:
        """Return what was done since the last page, once: what belongs to a place of it, or all but for some places."""
        if session is None or request.method == "HEAD":
            return []
        given, session.notices = session.notices, []
        here = [notice for notice in given if (notice[2] not in but if place is None else notice[2] == place)]
        session.notices = [notice for notice in given if notice not in here]
        return [(kind, text) for kind, text, _ in here]

    theme = request.cookies.get(THEME_COOKIE, "auto")
    return {
        "viewer": getattr(request.state, "viewer", None),
        "signed_in": session is not None,
        "here": request.url.path,
        "query": request.url.query,
        "cluster_name": request.app.state.agent.cluster.name,
        "theme": theme if theme in THEMES else "auto",
        "csrf": forgery_token(request),
        "take_notices": take_notices,
        "now": datetime.now(UTC),
        "hx": request.headers.get("hx-request") == "true",
    }


@functools.cache
def static_url(name: str) -> str:
    """Return the address of a static file; it changes with the file, so that browsers may keep it for ever."""
    content = (paths.web_static() / name).read_bytes()
    return f"/static/{quote(name)}?v={hashlib.sha256(content).hexdigest()[:12]}"


def ident(text: object) -> str:
    """Return a text as a part of an HTML id: letters, digits and `-_` stay, all else becomes its number."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else f".{ord(c):x}." for c in str(text))


def _line(text: object) -> str:
    """Return a text as one line without control characters; pages escape it as well."""
    return plain_line(" ".join(str(text).splitlines()))


def _ticks(text: object) -> Markup:
    """Return a text as one line, with what is between backticks as code."""
    from markupsafe import Markup

    words = _line(text).split("`")
    whole = Markup("")
    for place, word in enumerate(words):
        code = place % 2 == 1 and place + 1 < len(words)
        whole += Markup("<code>{}</code>").format(word) if code else ("`" if place % 2 else "") + word
    return whole


def _path(text: object) -> str:
    """Return a text as one segment of an address."""
    return quote(str(text), safe="")


def _when(at: datetime | str | None) -> str:
    """Return a time as people read it, UTC; "-" for None."""
    if at is None:
        return "-"
    found = datetime.fromisoformat(at) if isinstance(at, str) else at
    return found.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _iso(at: datetime | str | None) -> str:
    """Return a time for the attribute `datetime`."""
    if at is None:
        return ""
    found = datetime.fromisoformat(at) if isinstance(at, str) else at
    return found.astimezone(UTC).isoformat(timespec="seconds")
