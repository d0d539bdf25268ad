"""The dashboard's page of where the time of a job's steps goes: its slowest rank, why, and what each node is worth."""

from __future__ import annotations

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse

from ugro_py import stragglers
from ugro_py.api.auth import Agent
from ugro_py.paths import JobPaths
from ugro_py.stragglers import words
from ugro_py.web.errors import is_part
from ugro_py.web.render import render
from ugro_py.web.session import Viewer

router = APIRouter(prefix="/experiments/{job}/bottlenecks", include_in_schema=False)


@router.get("")
def show_bottlenecks(
    job: str,
    request: Request,
    agent: Agent,
    who: Viewer,
    attempt: int | None = Query(None, ge=1, le=1_000_000),
) -> HTMLResponse:
    """Show where the time of the newest steps went: as a part of the page of the experiment, or as its own page."""
    row = agent.store.job(job)
    # It waits still, or its folder was removed: nobody's error, and said in words (the page of the job is there).
    found = stragglers.report(row.name, agent.store, attempt) if JobPaths(row.name).root.is_dir() else None
    name = "parts/bottlenecks.html" if is_part(request) else "bottlenecks.html"
    return render(
        request, name, title=f"Bottlenecks of {row.name}", job=row, report=found,
        seconds=words.seconds, percent=words.percent,
        worth_lines=words.worth_lines(found.worth) if found and found.worth else [],
    )  # fmt: skip
