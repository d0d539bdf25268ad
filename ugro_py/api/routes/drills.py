"""Breaking a running job on purpose: the agent does it for the owner, and measures how long recovery takes."""

from __future__ import annotations

import threading
from typing import Any

from fastapi import APIRouter

from ugro_py import drill_doors
from ugro_py.api.auth import Agent, Who, audited, check_owner
from ugro_py.api.models import Drill, Drilled
from ugro_py.errors import UsageError

router = APIRouter(prefix="/v1/jobs/{job}", tags=["changes"])

MOST = 4
"""So many drills at once: each waits in a thread of its own until the job trains again."""
_free = threading.BoundedSemaphore(MOST)


@router.post("/drill", responses={200: {"model": Drilled}}, response_model=None)
def drill(job: str, agent: Agent, who: Who, body: Drill) -> dict[str, Any]:
    """Break a running job, and answer when it trains again, has ended, or `timeout_s` is over."""
    lines: list[str] = []
    with audited(agent, who, "drill", job, {"action": body.action, "node": body.node, "rank": body.rank}):
        check_owner(agent, who, job, "drill")
        if not _free.acquire(blocking=False):
            raise UsageError(f"drill on job {job}", f"{MOST} drills are under way", "wait for one to end")
        try:
            result = drill_doors.here(agent.store, who.person, job, body.model_dump(), lines.append)
        finally:
            _free.release()
    return {"result": result, "lines": lines}
