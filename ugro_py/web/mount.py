"""Puts the dashboard into the application: its pages, its static files, what guards them."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

from ugro_py import paths
from ugro_py.web import actions
from ugro_py.web.errors import login_needed
from ugro_py.web.live import Live
from ugro_py.web.pages import (
    artifacts,
    bottlenecks,
    cluster,
    compare,
    events,
    experiment,
    experiments,
    health,
    launch,
    live,
    login,
    logs,
    queue,
)
from ugro_py.web.security import Headers
from ugro_py.web.session import LoginNeeded, Sessions
from ugro_py.web.static_files import Static

PAGES = (
    cluster, experiments, compare, launch, experiment, bottlenecks, logs, artifacts, queue, health, events, live, login,
)  # fmt: skip


def mount(app: FastAPI) -> None:
    """Add the dashboard to the application of `ugro_py.api.app.create_app`."""
    app.state.sessions = Sessions(app.state.agent.store)
    app.state.live = Live(app)
    app.mount("/static", Static(directory=paths.web_static()), name="static")
    app.include_router(login.api)
    for router in (actions.jobs, actions.router):
        app.include_router(router)
    for page in PAGES:
        _answer_head(page.router)
        app.include_router(page.router)
    app.add_exception_handler(LoginNeeded, login_needed)
    app.add_middleware(Headers)


def _answer_head(router: APIRouter) -> None:
    """Have HEAD answered as GET is, without a body: `curl -I`, and programs that look whether a page is there."""
    for route in router.routes:
        methods = route.methods if isinstance(route, APIRoute) and "/live" not in route.path else None
        if methods and "GET" in methods:  # the streams of `/live` have no end
            methods.add("HEAD")
