"""Submitting jobs: first their files, where there are any, then the request."""

from __future__ import annotations

import tempfile
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from ugro_py import paths
from ugro_py.api.auth import Agent, Who, audited
from ugro_py.api.guard import UPLOADS
from ugro_py.api.models import Done, Submission, Upload
from ugro_py.errors import UsageError

router = APIRouter(prefix="/v1", tags=["submit"])


@router.post("/uploads", responses={200: {"model": Upload}}, response_model=None)
async def upload(request: Request, agent: Agent, who: Who) -> dict[str, Any]:
    """Take in the files of a job as one tar stream (`Content-Type: application/x-tar`; docs/api.md has its form)."""
    if request.headers.get("content-type", "").split(";")[0].strip() != UPLOADS:
        raise UsageError("POST /v1/uploads", f"is not {UPLOADS}", "send a tar stream")
    # A file without a name: whatever happens, nothing is left.
    with tempfile.TemporaryFile(dir=paths.data_dir()) as file:
        async for block in request.stream():
            await run_in_threadpool(file.write, block)
        file.seek(0)
        name, parts = await run_in_threadpool(request.app.state.submissions.take, who, file)
    return {"upload": name, "parts": sorted(parts)}


@router.post("/jobs", responses={200: {"model": Done}}, response_model=None)
def submit(request: Request, agent: Agent, who: Who, body: Submission) -> dict[str, Any]:
    """Put a job of the caller into the queue. It starts when its turn comes; follow its events to see it."""
    target = str(body.request.get("name", ""))
    with audited(agent, who, "submit", target):
        job = request.app.state.submissions.submit(who, body.request, body.upload, body.secrets)
    agent.wake()
    return {"job": job.name, "job_id": job.name, "status": job.status, "changed": True}
