"""The dashboard's page: queue."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from ugro_py.web.render import render
from ugro_py.web.session import Viewer

router = APIRouter(include_in_schema=False)


@router.get("/queue")
def show(request: Request, who: Viewer) -> HTMLResponse:
    """Show it."""
    return render(request, "queue.html", title="Queue")
