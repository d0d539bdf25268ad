"""Events and alerts: what happened, up to now or as it comes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from ugro_py import events
from ugro_py.alerts import report
from ugro_py.api import sse
from ugro_py.api.auth import Agent, Who
from ugro_py.api.models import Event
from ugro_py.api.standing import CHECK_S, Standing
from ugro_py.api.view import AgentView

router = APIRouter(prefix="/v1", tags=["events"])

_BLOCK = 500


def _wanted(
    job: str | None = None,
    node: str | None = None,
    severity: Literal["info", "warning", "error"] = "info",
    since: str | None = None,
    kind: Annotated[list[str] | None, Query()] = None,
) -> dict[str, Any]:
    """Which events are wanted: of a job, of a node, this severity and worse, since when, of these kinds."""
    found: dict[str, Any] = {"job": job, "node": node, "severity": severity, "kinds": kind or ()}
    if since is not None:
        found["since"] = events.since(since)
    return found


Wanted = Annotated[dict[str, Any], Depends(_wanted)]


@router.get("/events", responses={200: {"model": list[Event]}}, response_model=None)
def list_events(
    agent: Agent,
    who: Who,
    wanted: Wanted,
    limit: int = Query(100, ge=1, le=10_000),
    after: int | None = Query(None, ge=0, le=1 << 60),
) -> list[dict[str, Any]]:
    """Return the newest events, oldest first; with `after` those that come after the one with that id."""
    if after is not None:
        return [events.as_json(event) for event in agent.store.events_after(after, limit, **wanted)]
    return [events.as_json(event) for event in agent.store.find_events(limit, **wanted)]


@router.get("/alerts")
def list_alerts(agent: Agent, who: Who, all: bool = False, limit: int = Query(100, ge=1, le=10_000)) -> dict[str, Any]:
    """Return the alerts that last, newest first, and with `all` those that are over; also as lines for people."""
    rows = [row for row in agent.store.alerts(limit=limit if all else 10_000) if all or not row.resolved_at][:limit]
    return {"alerts": [report.as_values(row) for row in rows], "lines": report.lines(rows)}


@router.get("/events/stream", responses={200: {"content": {"text/event-stream": {}}}}, response_model=None)
async def stream_events(
    request: Request, agent: Agent, who: Who, wanted: Wanted, after: int | None = Query(None, ge=0, le=1 << 60)
) -> StreamingResponse:
    """Stream events as they come; `Last-Event-ID` (or `after`) goes on after that one, so that none is missed."""
    newest = await run_in_threadpool(agent.store.newest_event)
    if wanted["job"] is not None:
        await run_in_threadpool(agent.store.job, wanted["job"])
    after = sse.place(request, newest if after is None else after)
    return sse.stream(_events(request, agent, Standing(request, who), after, wanted))


async def _events(
    request: Request, agent: AgentView, standing: Standing, after: int, wanted: dict[str, Any]
) -> AsyncIterator[bytes]:
    feed, closing = request.app.state.feed, request.app.state.closing
    yield sse.KEEP_ALIVE
    while not closing.is_set() and await standing.lasts():
        reached = await run_in_threadpool(agent.store.newest_event)
        block = await run_in_threadpool(agent.store.events_after, after, _BLOCK, **wanted)
        for event in block:
            yield sse.message(events.as_json(event), event.id, event.kind)
        # What fits none of the wishes need not be looked through again; a full block may have more behind it.
        after = block[-1].id if len(block) == _BLOCK else max([after, reached, *(event.id for event in block)])
        if len(block) < _BLOCK and not await feed.wait(after, CHECK_S):
            yield sse.KEEP_ALIVE
