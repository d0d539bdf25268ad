"""Changes of jobs: only who submitted a job, and admins, may make them. Each is noted in the audit trail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter

from ugro_py import users
from ugro_py.api.auth import Agent, Caller, Who, audited, check_owner
from ugro_py.api.models import Done, Move, Priority, Stop
from ugro_py.api.view import AgentView
from ugro_py.errors import RightsError, UsageError
from ugro_py.queue import actions

router = APIRouter(prefix="/v1/jobs/{job}", tags=["changes"], responses={200: {"model": Done}})


def _change(
    agent: AgentView, who: Caller, job: str, verb: str, act: Callable[[], object], data: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Do what is asked of a job if the caller may, and say what became of it."""
    with audited(agent, who, verb, job, data):
        check_owner(agent, who, job, verb)
        changed = act()
    agent.wake()
    row = agent.store.job(job)
    return {"job": row.name, "job_id": row.name, "status": row.status, "changed": changed is not False}


@router.post("/stop", response_model=None)
def stop(job: str, agent: Agent, who: Who, body: Stop | None = None) -> dict[str, Any]:
    """Ask for the end of a job. It has ended when its `status` says so; what it achieved is collected before."""
    force = body.force if body else False

    def act() -> bool:
        row = agent.store.job(job)
        if row.status == "pending" and row.controller is None:
            actions.cancel(agent.store, job, who.person.user)
        elif row.active:
            agent.store.request_stop(job, force)
        return row.active

    return _change(agent, who, job, "stop", act, {"force": force})


@router.post("/hold", response_model=None)
def hold(job: str, agent: Agent, who: Who) -> dict[str, Any]:
    """Keep a job that waits from starting."""
    return _change(agent, who, job, "hold", lambda: actions.hold(agent.store, job, who.person.user, admin=who.admin))


@router.post("/release", response_model=None)
def release(job: str, agent: Agent, who: Who) -> dict[str, Any]:
    """Let a job that was held start when its turn comes; who is no admin can't release what an admin holds."""
    held_by = agent.store.job(job).held_by

    def act() -> object:
        _check_held(agent, who, job, held_by)
        return actions.release(agent.store, job, who.person.user)

    return _change(agent, who, job, "release", act)


@router.post("/priority", response_model=None)
def priority(job: str, agent: Agent, who: Who, body: Priority) -> dict[str, Any]:
    """Give a job that waits another priority."""

    def act() -> object:
        users.check_priority(agent.store, agent.cluster, who.person, who.admin, body.priority)
        return actions.set_priority(agent.store, job, body.priority, who.person.user)

    return _change(agent, who, job, "priority", act, {"priority": body.priority})


@router.post("/move", response_model=None)
def move(job: str, agent: Agent, who: Who, body: Move) -> dict[str, Any]:
    """Move a job within the queue."""
    if (body.to is None) == (body.before is None):
        raise UsageError("move", "needs either `to` or `before`", "say first, last, or before which job")

    def act() -> object:
        return actions.move(agent.store, job, body.to or "before", who.person.user, other=body.before)

    return _change(agent, who, job, "move", act, {"to": body.to, "before": body.before})


@router.post("/cancel", response_model=None)
def cancel(job: str, agent: Agent, who: Who) -> dict[str, Any]:
    """Take a job that waits out of the queue."""
    return _change(agent, who, job, "cancel", lambda: actions.cancel(agent.store, job, who.person.user))


def _check_held(agent: AgentView, who: Caller, job: str, held_by: str | None) -> None:
    if held_by not in (None, who.person.user) and not who.admin:
        raise RightsError(f"release job {job}", f"{held_by} holds it", f"ask {held_by}")
