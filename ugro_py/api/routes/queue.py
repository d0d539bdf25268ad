"""The queue: what waits, in which order, and for what."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter

from ugro_py.api.auth import Agent, Who
from ugro_py.queue.shown import entries

router = APIRouter(prefix="/v1/queue", tags=["queue"])


@router.get("")
def show_queue(agent: Agent, who: Who) -> list[dict[str, Any]]:
    """Show the jobs that wait, first in line first: who wants what, why it waits, and when it starts at the latest."""
    return entries(agent.store, agent.cluster, time.time())
