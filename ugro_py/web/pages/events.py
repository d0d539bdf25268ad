"""The dashboard's page: events."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from ugro_py.web.render import render
from ugro_py.web.session import Viewer

router = APIRouter(include_in_schema=False)


@router.get("/events")
def show(request: Request, who: Viewer) -> HTMLResponse:
    """Show it."""
    return render(request, "events.html", title="Events")
