"""Where the time of a job's steps goes, and which rank the others wait for."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Query

from ugro_py import stragglers
from ugro_py.api.auth import Agent, Who

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.get("/{job}/stragglers")
def show_stragglers(
    job: str, agent: Agent, who: Who, attempt: int | None = Query(None, ge=1, le=1_000_000)
) -> dict[str, Any]:
    """Say where the time of the newest steps went: as JSON values, and as the lines `ugro stragglers` shows."""
    agent.store.job(job)
    return stragglers.told(job, agent.store, attempt)
