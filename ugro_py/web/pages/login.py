"""Signing in and out: with a one-time link that `ugro dashboard` makes, or with a token; and the theme."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from ugro_py import users
from ugro_py.api.auth import Agent, Who
from ugro_py.api.tokens import bearer, user_of_token
from ugro_py.errors import UsageError
from ugro_py.web.cookie import cookie_name, key_of
from ugro_py.web.errors import error_page
from ugro_py.web.render import THEME_COOKIE, THEMES, render
from ugro_py.web.security import Form, local_path, refuse_foreign_navigation
from ugro_py.web.session import (
    LINK_S,
    SESSION_S,
    LoginNeeded,
    sessions_of,
    viewer_of,
)

router = APIRouter(include_in_schema=False)
api = APIRouter(prefix="/v1/dashboard", tags=["dashboard"])


@api.post("/link")
def make_link(request: Request, agent: Agent, who: Who) -> dict[str, object]:
    """Make an address that signs the caller in to the dashboard, once and within minutes.

    `url` is null where the dashboard has no port of its own; `path` is for whatever host the API is asked under.
    """
    token = bearer(request.headers["authorization"]) if who.door == "tcp" else None
    code = sessions_of(request).link(who.person, gid=request.state.peer.gid, token=token)
    path = f"/login?once={code}"
    port = request.app.state.dashboard_port
    url = f"http://localhost:{port}{path}" if port else None
    return {"user": who.person.user, "path": path, "port": port, "url": url, "expires_s": LINK_S}


@router.get("/login")
def login(request: Request, once: str | None = None, next: str = "/") -> Response:
    """Show where one signs in, or begin the session that a one-time link is for."""
    there = local_path(next)
    if once is not None and request.method != "HEAD":  # who only looks whether it is there does not use it up
        # Nor from here: `/login?next=` in somebody's link could lead on to a one-time link of theirs.
        refuse_foreign_navigation(request, ours=False)
        key = sessions_of(request).redeem(once)
        if key is None:
            return error_page(
                request, 403, "this link", "it was used already, or is too old", "run `ugro dashboard` for a new one"
            )
        return _signed_in(request, key, there)
    try:
        viewer_of(request)
    except LoginNeeded:
        return render(request, "login.html", title="Sign in", next=there, tokens=bool(request.app.state.tokens.now()))
    return RedirectResponse(there, 303)


@router.post("/login")
def login_with_token(request: Request, form: Form) -> Response:
    """Begin a session for the user of a token."""
    token = form.get("token", "").strip()
    user = user_of_token(request.app.state.tokens.now(), token)
    there = local_path(form.get("next", "/"))
    if user is None:
        page = {"title": "Sign in", "next": there, "tokens": True, "wrong": True}
        return render(request, "login.html", 403, **page)
    key = sessions_of(request).begin(users.person_named(user), token=token)
    return _signed_in(request, key, there)


@router.post("/logout")
def logout(request: Request, form: Form) -> Response:
    """End the session."""
    sessions_of(request).end(key_of(request))
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(cookie_name(request), path="/", httponly=True, samesite="strict")
    return answer


@router.post("/theme")
def theme(request: Request, form: Form) -> Response:
    """Keep the choice of light or dark in the browser."""
    wanted = form.get("theme", "")
    if wanted not in THEMES:
        raise UsageError(f"theme {wanted!r:.20}", "there is none of that name", f"choose of {', '.join(THEMES)}")
    answer = RedirectResponse(local_path(form.get("next", "/")), 303)
    answer.set_cookie(THEME_COOKIE, wanted, max_age=365 * 86400, path="/", samesite="strict")
    return answer


def _signed_in(request: Request, key: str, there: str) -> Response:
    # Who was signed in before in this browser is no more: a link is for one person.
    sessions_of(request).end(key_of(request))
    answer = RedirectResponse(there, 303)
    answer.set_cookie(
        cookie_name(request),
        key,
        max_age=int(SESSION_S),
        path="/",
        httponly=True,
        secure=request.url.scheme == "https",
        samesite="strict",
    )
    return answer
