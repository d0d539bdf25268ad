"""Jobs once more: the same one from its newest checkpoint, or a new one with its request and code."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from ugro_py import again, users
from ugro_py.api.auth import Agent, Who, audited, check_owner
from ugro_py.api.models import Again, Done
from ugro_py.queue import actions, spool

router = APIRouter(prefix="/v1/jobs/{job}", tags=["changes"], responses={200: {"model": Done}})


@router.post("/resume", response_model=None)
def resume(job: str, request: Request, agent: Agent, who: Who, body: Again | None = None) -> dict[str, Any]:
    """Put a failed or stopped job back into the queue; or give one that is held for it its secrets again."""
    secrets = body.secrets if body else {}
    with audited(agent, who, "resume", job):
        check_owner(agent, who, job, "resume")
        most = users.ceiling(agent.store, agent.cluster, who.person, who.admin)
        with request.app.state.submissions.counting():
            row = again.reopen(agent.store, job, None, secrets, body.time_limit_s if body else None, most)
    agent.wake()
    return {"job": row.name, "job_id": row.name, "status": row.status, "changed": True}


@router.post("/rerun", response_model=None)
def rerun(job: str, request: Request, agent: Agent, who: Who, body: Again | None = None) -> dict[str, Any]:
    """Put a new job with the request and the code of an earlier one into the queue.

    Only the owner of a job, and admins, may run it again: its code and its arguments are theirs.
    """
    secrets, name = (body.secrets, body.name) if body else ({}, None)
    with audited(agent, who, "rerun", job):
        check_owner(agent, who, job, "rerun")
        most = users.ceiling(agent.store, agent.cluster, who.person, who.admin)
        wanted = again.request_again(agent.store, job, name, tuple(secrets), most)
        users.check_isolation(agent.cluster, who.person, who.admin, dict.fromkeys(wanted.exclude, True))
        actions.check_submission(agent.store, who.person.user, who.person.group)  # before any file is copied
        row = request.app.state.submissions.enter(who, wanted, spool.copy(job), secrets)
        if wanted.hold:
            agent.store.hold(row.name, agent.store.job(job).held_by or who.person.user, admin=True)
    agent.wake()
    return {"job": row.name, "job_id": row.name, "status": row.status, "changed": True}
