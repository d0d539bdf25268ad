"""From a request to the person who makes it, and a trail of what was asked."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.exceptions import HTTPException

from ugro_py import audit, users
from ugro_py.api.tokens import bearer, user_of_token
from ugro_py.api.view import AgentView
from ugro_py.errors import RightsError
from ugro_py.web.cookie import key_of


@dataclass(frozen=True)
class Caller:
    """Who makes a request, and over which door (`socket`, `tcp`, or `web` for a browser that is signed in)."""

    person: users.Person
    door: str
    admin: bool


async def agent_of(request: Request) -> AgentView:
    """Return the agent that the application belongs to."""
    agent: AgentView = request.app.state.agent
    return agent


def caller_of(request: Request) -> Caller:
    """Return who makes the request; 401 where nobody is known.

    That is the kernel's word on a Unix socket, the token's user on TCP, and who is signed in to the dashboard. A
    browser sends its session by itself, also where a page of somebody else made it ask: so a session reads what the
    API gives, and changes nothing but by the dashboard's own forms (`ugro_py.web.security.read_form`).
    """
    peer = request.state.peer
    person, door = None, "tcp"
    if peer.uid is not None:
        person, door = users.person_of(peer.uid, peer.gid), "socket"
    elif header := request.headers.get("authorization"):
        user = user_of_token(request.app.state.tokens.now(), bearer(header))
        person = None if user is None else users.person_named(user)
    elif request.method in ("GET", "HEAD") or not request.url.path.startswith("/v1/"):
        person, door = _signed_in(request), "web"
    if person is None:
        raise HTTPException(401, "a token is needed", {"WWW-Authenticate": "Bearer"})
    return Caller(person, door, users.is_admin(request.app.state.agent.store, person))


def _signed_in(request: Request) -> users.Person | None:
    person: users.Person | None = request.app.state.sessions.person(key_of(request), request.app.state.tokens)
    return person


Agent = Annotated[AgentView, Depends(agent_of)]
Who = Annotated[Caller, Depends(caller_of)]


def audited(
    agent: AgentView, caller: Caller, verb: str, target: str, data: Mapping[str, Any] | None = None
) -> AbstractContextManager[None]:
    """Note in the audit trail what the block did: `done`, `refused: …` or `failed: …`."""
    return audit.audited(agent.store, caller.person, caller.door, verb, target, data)


def check_owner(agent: AgentView, caller: Caller, job: str, verb: str) -> None:
    """Raise RightsError unless the job is the caller's own or they are an admin; NotFoundError if there is none."""
    users.check_owner(agent.store, caller.person, agent.store.job(job), verb)


def check_admin(caller: Caller, verb: str) -> None:
    """Raise RightsError unless the caller is an admin."""
    if not caller.admin:
        raise RightsError(verb, f"only an admin may, and {caller.person.user} is none", users.SET_BY_ADMIN)
