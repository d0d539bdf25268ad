"""Jobs as they are and what they achieved."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Query

from ugro_py import results, status
from ugro_py.api.auth import Agent, Who
from ugro_py.api.models import JobLine, JobState, Results
from ugro_py.explain.classify import explain
from ugro_py.explain.facts import gather
from ugro_py.explain.report import lines
from ugro_py.state.views import job_list

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.get("", responses={200: {"model": list[JobLine]}}, response_model=None)
def list_jobs(
    agent: Agent,
    who: Who,
    all: bool = False,
    limit: int = Query(1000, ge=1, le=10_000),
    before: str | None = Query(None, max_length=200),
) -> list[dict[str, Any]]:
    """List the jobs that have not ended and the last few that have.

    With `all` every job, the newest `limit` of them; `before`, the name of the last one in an answer, goes on there.
    """
    return job_list(agent.store, everything=all or before is not None, limit=limit, before=before)


@router.get("/{job}", responses={200: {"model": JobState}}, response_model=None)
def show_job(job: str, agent: Agent, who: Who) -> dict[str, Any]:
    """Show one job: state, ranks with their newest metrics, events."""
    return status.status_of(agent.store, job, agent.cluster)


@router.get("/{job}/explain")
def explain_job(
    job: str, agent: Agent, who: Who, attempt: int | None = Query(None, ge=1, le=1_000_000)
) -> dict[str, Any]:
    """Say why a job failed, waits or stands still: as JSON values, and as the lines `ugro explain` shows."""
    agent.store.job(job)
    found = explain(gather(agent.store, job, attempt))
    return {"explanation": found.as_json(), "lines": list(lines(found))}


@router.get("/{job}/results", responses={200: {"model": Results}}, response_model=None)
def show_results(job: str, agent: Agent, who: Who) -> dict[str, Any]:
    """Show what a job achieved."""
    agent.store.job(job)
    found = results.summary(job, agent.store)
    return {"results": found.to_json(), "curve": [(point.step, point.loss) for point in results.thin(found.curve)]}
