"""Errors as pages for browsers, and as a line on the page where only a part of it was asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from urllib.parse import quote

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from ugro_py.errors import UgroError
from ugro_py.web.launch_fields import HIDDEN
from ugro_py.web.render import render
from ugro_py.web.security import StaleFormError, local_path, typed_fields
from ugro_py.web.session import LoginNeeded, forgery_token, viewer_of

_API = ("/v1/", "/metrics", "/static/")


def wants_page(request: Request) -> bool:
    """Say whether the answer is for a person: a browser asks for HTML, and what it asks is no part of the API."""
    if request.url.path.startswith(_API):
        return False
    return is_part(request) or "text/html" in request.headers.get("accept", "")


def is_part(request: Request) -> bool:
    """Say whether htmx asks: for a part of a page that is open already."""
    return request.headers.get("hx-request") == "true"


def error_page(request: Request, status: int, what: str, came_back: str = "", next_step: str = "") -> Response:
    """Return a page that says what was tried, what came back and what to do next."""
    try:
        title = HTTPStatus(status).phrase
    except ValueError:
        title = "Error"
    values = {"status_code": status, "what": what, "came_back": came_back, "next_step": next_step}
    if is_part(request):
        return render(request, "parts/error.html", status, **values)
    with suppress(LoginNeeded, UgroError):  # the store may be what is out of order
        viewer_of(request)
    return render(request, "error.html", status, title=title, **values)


def unsent_page(request: Request, status: int, fields: Mapping[str, str]) -> Response:
    """Return a form that was not taken once more, with all that was typed, to be sent when one has signed in.

    A browser that goes back would load the page of the form again, and be sent to sign in: the text would be gone.
    """
    with suppress(LoginNeeded, UgroError):
        viewer_of(request)
    shown = {name: "" if name in HIDDEN else value for name, value in fields.items() if name != "csrf"}
    action = local_path(request.url.path + (f"?{request.url.query}" if request.url.query else ""))
    again = sorted(name for name in fields if name in HIDDEN and name != "csrf" and fields[name].strip())
    return render(request, "unsent.html", status, title="Not sent yet", fields=shown, action=action, again=again)


def stale_form(request: Request, status: int, error: StaleFormError) -> Response:
    """Return the answer to a form that another session's page sent, so that it can be sent with one more click."""
    if request.url.path == "/login":  # what was typed there is a token
        return error_page(request, status, error.what, error.came_back, error.next_step)
    if not is_part(request):
        return unsent_page(request, status, error.fields)
    viewer = getattr(request.state, "viewer", None)
    now = f" as {viewer.person.user}" if viewer else ""
    page = error_page(request, status, error.what, f"its page is older than your session{now}", "send it once more")
    # Only pages of this host and port get here, and they could read it on any page.
    page.headers["hx-trigger"] = json.dumps({"ugro:token": forgery_token(request)})
    return page


async def login_needed(request: Request, error: Exception) -> Response:
    """Send a browser that nobody is known of to the page where one signs in; a form that it sent is not lost."""
    if request.method == "POST" and not is_part(request):
        try:
            fields = await typed_fields(request)
        except UgroError:
            fields = None  # no form of ours
        if fields is not None:
            return await run_in_threadpool(unsent_page, request, 401, fields)
    return await run_in_threadpool(_to_login, request)


def _to_login(request: Request) -> Response:
    where = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if request.method not in ("GET", "HEAD"):
        where = "/"
    login = f"/login?next={quote(where, safe='')}"
    if is_part(request) and request.method not in ("GET", "HEAD"):
        # What somebody typed, a note for example, is still on the page: it is not left.
        return error_page(
            request,
            401,
            "you are signed out",
            "nothing was changed",
            "sign in in another tab (`ugro dashboard` makes a link), then send this again from here",
        )
    if is_part(request):
        return Response(status_code=401, headers={"hx-redirect": login})
    if request.headers.get("accept", "") == "text/event-stream":
        return Response(status_code=401)
    return RedirectResponse(login, 303)
