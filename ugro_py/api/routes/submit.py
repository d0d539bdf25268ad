"""Submitting jobs: first their files, where there are any, then the request."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from ugro_py.api.auth import Agent, Who, audited, caller_of
from ugro_py.api.guard import UPLOADS
from ugro_py.api.models import Done, Submission, Upload
from ugro_py.errors import UsageError

router = APIRouter(prefix="/v1", tags=["submit"])


@router.post("/uploads", responses={200: {"model": Upload}}, response_model=None)
async def upload(request: Request, agent: Agent, who: Who) -> Any:
    """Take in the files of a job as one tar stream (`Content-Type: application/x-tar`; docs/api.md has its form)."""
    if request.headers.get("content-type", "").split(";")[0].strip() != UPLOADS:
        raise UsageError("POST /v1/uploads", f"is not {UPLOADS}", "send a tar stream")
    announced = int(request.headers.get("content-length", "0"))
    uploads = request.app.state.submissions.uploads
    await uploads.turn(who.person.user)
    with uploads.receive(who.person.user, announced) as incoming:
        try:
            async for block in request.stream():
                await incoming.add(block)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        name, parts = await incoming.unpacked()
    return {"upload": name, "parts": sorted(parts)}


@router.post("/jobs", responses={200: {"model": Done}}, response_model=None)
def submit(request: Request, agent: Agent, body: Submission) -> dict[str, Any]:
    """Put a job of the caller into the queue. It starts when its turn comes; follow its events to see it."""
    who = caller_of(request)  # not by `Who`: that would be one more thread to wait for
    target = str(body.request.get("name", ""))
    try:  # what was done is noted with the job, in one transaction
        job = request.app.state.submissions.submit(who, body.request, body.upload, body.secrets)
    except BaseException:
        with audited(agent, who, "submit", target):
            raise
    if not job.held:
        agent.wake()
    return {"job": job.name, "job_id": job.name, "status": job.status, "changed": True}
