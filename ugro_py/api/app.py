"""The agent's HTTP API as an application: its routes, and how errors are told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from ugro_py import __version__, errors
from ugro_py.api.feed import Feed
from ugro_py.api.guard import LOCAL_HOSTS, Guard, error_body
from ugro_py.api.models import Problem
from ugro_py.api.routes import (
    again,
    changes,
    drills,
    events,
    experiments,
    files,
    jobs,
    nodes,
    queue,
    series,
    stragglers,
    streams,
    submit,
    users,
)
from ugro_py.api.routes import agent as agent_routes
from ugro_py.api.statuses import status_of
from ugro_py.api.submit import Submissions
from ugro_py.api.tokens import Tokens
from ugro_py.api.view import AgentView, Timing
from ugro_py.web.errors import error_page, stale_form, wants_page
from ugro_py.web.mount import mount
from ugro_py.web.security import HEADERS, StaleFormError

__all__ = ["AgentView", "Timing", "create_app"]

DESCRIPTION = """The control plane of UGRO over HTTP. On the Unix socket you are the account you run as; on TCP a bearer
token says who you are. Reading is shared; who submitted a job, and admins, may change it."""

_USAGE = errors.UsageError.exit_code
_BUG_HEADERS = {**HEADERS, "cache-control": "no-store"}


def create_app(agent: AgentView, *, tokens: Mapping[str, str] | None = None, hosts: Iterable[str] = ()) -> FastAPI:
    """Return the application of an agent.

    Args:
        agent: whose store and cluster it is.
        tokens: token -> user, for TCP (`ugro_py.api.tokens.read_tokens`); without any nobody may enter there.
        hosts: names under which it may be asked beside those of this machine's loopback.
    """
    problem = {"description": "It was not done; the body says why.", "model": Problem}
    app = FastAPI(
        title="UGRO",
        version=__version__,
        description=DESCRIPTION,
        openapi_url="/v1/openapi.json",
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        responses={400: problem, 403: problem, 404: problem},
    )
    app.state.agent = agent
    app.state.tokens = Tokens(tokens)
    app.state.closing = asyncio.Event()
    app.state.feed = Feed(agent.store)
    app.state.submissions = Submissions(agent)
    app.state.dashboard_port = None
    app_routes = (
        jobs,
        changes,
        drills,
        again,
        submit,
        streams,
        files,
        queue,
        nodes,
        events,
        users,
        experiments,
        series,
        stragglers,
    )
    for module in (*app_routes, agent_routes):
        app.include_router(module.router)
    app.add_exception_handler(errors.UgroError, _ugro_error)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _bug)
    app.state.hosts = {host.lower().strip("[]") for host in (*LOCAL_HOSTS, *hosts)}
    app.add_middleware(Guard, hosts=app.state.hosts)
    mount(app)
    return app


def _ugro_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.UgroError)
    status = status_of(error)
    if wants_page(request):
        if isinstance(error, StaleFormError):
            return stale_form(request, status, error)
        return error_page(request, status, error.what, error.came_back, error.next_step)
    return JSONResponse(error_body(error.what, error.came_back, error.next_step, error.exit_code), status)


def _not_valid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first: dict[str, Any] = dict(error.errors()[0]) if error.errors() else {}
    where = ".".join(str(part) for part in first.get("loc", ())[1:])
    said = str(first.get("msg", "is not valid"))
    if wants_page(request):
        return error_page(request, 400, where or "the address", said, "correct it")
    body = error_body(where or "the request", said, "see /v1/openapi.json", _USAGE)
    return JSONResponse(body, 400)


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if wants_page(request):
        return error_page(request, error.status_code, f"{request.method} {request.url.path[:100]}", str(error.detail))
    code = errors.NotFoundError.exit_code if error.status_code == 404 else _USAGE
    code = errors.RightsError.exit_code if error.status_code in (401, 403) else code
    path = request.url.path[:100]
    body = error_body(f"{request.method} {path}", str(error.detail), "see /v1/openapi.json", code)
    return JSONResponse(body, error.status_code, dict(error.headers or {}))


def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it; that somebody went is no error of the agent


def _bug(request: Request, error: Exception) -> Response:
    # What went wrong is in the agent's log: Starlette raises it again there. Callers learn nothing of its insides.
    if wants_page(request):
        page = error_page(request, 500, "this page", "an error inside the agent", "its log says more")
        page.headers.update(_BUG_HEADERS)  # Starlette answers this outside of all that adds them
        return page
    body = error_body(f"{request.method} {request.url.path[:100]}", "an error inside the agent", "see its log", 1)
    return JSONResponse(body, 500, _BUG_HEADERS)
