"""The dashboard's page of a job's files: what it made, to be downloaded; nothing outside of its folder."""

from __future__ import annotations

from itertools import islice
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from ugro_py.api.auth import Agent
from ugro_py.api.routes import files
from ugro_py.api.standing import Download
from ugro_py.paths import JobPaths
from ugro_py.state import JobRow
from ugro_py.web.render import render
from ugro_py.web.session import Viewer

router = APIRouter(prefix="/experiments/{job}/artifacts", include_in_schema=False)

_MOST = 1000


def artifacts_of(job: str, agent: Agent, who: Viewer, most: int = _MOST) -> tuple[list[dict[str, Any]], int]:
    """Return the first files of a job, each with path, folder, name and size in bytes, and how many there are.

    The run capsule, which has the code's uncommitted changes in it, is there for who submitted the job, and for admins.
    """
    row = agent.store.job(job)
    found = files.list_files(job, agent, who)
    paths = JobPaths(row.name)
    if _owns(row, who) and paths.config.is_file() and not paths.config.is_symlink():
        found = [{"path": paths.config.name, "size": paths.config.stat().st_size}, *found]
    rows = []
    for file in islice(found, most):
        folder, _, name = file["path"].rpartition("/")
        rows.append({**file, "folder": folder, "name": name})
    return rows, len(found)


def _owns(row: JobRow, who: Viewer) -> bool:
    return who.admin or row.user == who.person.user


@router.get("")
def show_artifacts(job: str, request: Request, agent: Agent, who: Viewer) -> HTMLResponse:
    """Show all files of a job."""
    row = agent.store.job(job)
    found, total = artifacts_of(job, agent, who)
    return render(
        request, "artifacts.html", title=f"Artifacts of {row.name}", job=row, artifacts=found, artifacts_total=total
    )


@router.get("/{name:path}", response_model=None)
def download(job: str, name: str, request: Request, agent: Agent, who: Viewer) -> Download:
    """Send one file as the API does: byte for byte, to be saved; no link is followed."""
    row = agent.store.job(job)
    paths = JobPaths(row.name)
    if name == paths.config.name and _owns(row, who):
        return files.send(paths, name, request, who)
    return files.get_file(job, name, request, agent, who)
