"""The queue: what waits, in which order, and for what."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from fastapi import APIRouter

from ugro_py import users
from ugro_py.api.auth import Agent, Who
from ugro_py.api.models import Submission
from ugro_py.api.submit import parsed
from ugro_py.queue.forecast import forecast
from ugro_py.queue.shown import entries
from ugro_py.request import job

router = APIRouter(prefix="/v1/queue", tags=["queue"])


@router.get("")
def show_queue(agent: Agent, who: Who) -> list[dict[str, Any]]:
    """Show the jobs that wait, first in line first: who wants what, why it waits, and when it starts at the latest."""
    return entries(agent.store, agent.cluster, time.time())


@router.post("/foretold")
def foretell(agent: Agent, who: Who, body: Submission) -> dict[str, Any]:
    """Say what the queue would say now of a job of the caller. Nothing is recorded, its files are not needed.

    `would_wait` and `would_fail` say why it would; `gpus` how many it gets where it names no number and has a quota.
    """
    plain = replace(
        parsed(body.request), script=None, workdir=None, resume=None, model="tiny-llama", dataset="python-docs"
    )
    asked, person = job.check(plain, ask_hub=False), who.person
    users.check_priority(agent.store, agent.cluster, person, who.admin, asked.priority)
    said = forecast(agent.store, agent.cluster, asked, person.user, person.group)
    return {"would_wait": said.waits, "would_fail": said.fails, "gpus": said.gpus}
