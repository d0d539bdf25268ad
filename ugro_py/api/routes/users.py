"""Users and groups, what they use, and the audit trail."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from fastapi import APIRouter, Query

from ugro_py import usage
from ugro_py.api.auth import Agent, Who, audited, check_admin
from ugro_py.api.models import Account, Asked, Quotas
from ugro_py.events import since as time_of

router = APIRouter(prefix="/v1", tags=["users"])


@router.get("/me")
def show_me(agent: Agent, who: Who) -> dict[str, Any]:
    """Show who the agent takes the caller for."""
    person = who.person
    return {
        "user": person.user, "uid": person.uid, "groups": list(person.groups), "admin": who.admin, "door": who.door,
        "account": agent.cluster.settings.accounts.get(person.user),
        "quotas": [agent.store.account("user", person.user).to_json()]
        + [agent.store.account("group", group).to_json() for group in person.groups],
    }  # fmt: skip


@router.get("/users", responses={200: {"model": list[Account]}}, response_model=None)
def list_accounts(agent: Agent, who: Who) -> list[dict[str, Any]]:
    """List the users and groups that have a role or quotas."""
    return [row.to_json() for row in agent.store.accounts()]


@router.put("/{kind}/{name}", responses={200: {"model": Account}}, response_model=None)
def set_account(kind: Literal["users", "groups"], name: str, agent: Agent, who: Who, body: Quotas) -> dict[str, Any]:
    """Set the role and quotas of a user or a group; admins only."""
    values = body.model_dump(exclude_unset=True)
    with audited(agent, who, "users set", f"{kind[:-1]} {name}", values):
        check_admin(who, "users set")
        row = agent.store.set_account(kind[:-1], name, **values) if values else agent.store.account(kind[:-1], name)
    agent.wake()
    return row.to_json()


@router.get("/usage")
def show_usage(agent: Agent, who: Who, since: str = "7d") -> dict[str, Any]:
    """Show GPU hours by user, group and job since a time or for an age (`24h`, `7d`)."""
    return usage.report(agent.store, time_of(since), datetime.now(UTC))


@router.get("/audit", responses={200: {"model": list[Asked]}}, response_model=None)
def show_audit(
    agent: Agent, who: Who, limit: int = Query(100, ge=1, le=10_000), user: str | None = None
) -> list[dict[str, Any]]:
    """Show who asked for what, newest last; admins only, others see their own lines."""
    if user != who.person.user:
        check_admin(who, "read the audit trail of others")
    return [usage.audit_line(row) for row in agent.store.audit(limit, user)]
