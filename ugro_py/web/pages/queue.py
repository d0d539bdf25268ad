"""The page Queue: the jobs that wait, why, and their order."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from ugro_py.web.live import Look, Parts, live, parts_of
from ugro_py.web.queue_view import waiting
from ugro_py.web.render import FORGERY_PLACE, html, render
from ugro_py.web.session import Viewer

router = APIRouter(include_in_schema=False)

SHOWN = 200
"""So many jobs are on the page; of the others it says how many there are."""


@router.get("/queue")
def show(request: Request, who: Viewer) -> HTMLResponse:
    """Show the queue."""
    return render(request, "queue.html", title="Queue", **parts_of(request, "queue", who))


@live("queue")
def parts(look: Look) -> Parts:
    """Make the table of the jobs that wait."""
    jobs = waiting(look)
    page = {"csrf": FORGERY_PLACE, "look": look, "jobs": jobs[:SHOWN], "more": max(0, len(jobs) - SHOWN)}
    return {"queue-jobs": html("parts/queue_jobs.html", **page)}
