"""The page Events: what happened, newest first, of a job, a node, a kind or a severity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from ugro_py.api.statuses import status_of
from ugro_py.errors import NotFoundError, UgroError, UsageError
from ugro_py.events import since as time_of
from ugro_py.state._alerts import SEVERITIES
from ugro_py.web.live import Look, Parts, live, parts_of
from ugro_py.web.render import html, render
from ugro_py.web.session import Viewer

router = APIRouter(include_in_schema=False)

SHOWN = 100
_FIELDS = ("severity", "job", "node", "kind", "since", "until")


@router.get("/events")
def show(request: Request, who: Viewer) -> HTMLResponse:
    """Show events."""
    query = {name: request.query_params.get(name, "").strip()[:200] for name in _FIELDS}
    wrong: UgroError | None = None
    try:
        found = parts_of(request, "events", who, query)
    except (UsageError, NotFoundError) as error:  # with what was typed, to be corrected
        found, wrong = {"parts": "", "live_url": ""}, error
    nodes = [node.name for node in request.app.state.agent.cluster.nodes]
    page: dict[str, Any] = {
        "asked": query,
        "severities": SEVERITIES,
        "node_names": nodes,
        "filtered": any(query.values()),
    }
    return render(
        request, "events.html", status_of(wrong) if wrong else 200, title="Events", wrong=wrong, **page, **found
    )


@live("events")
def parts(look: Look) -> Parts:
    """Make a row for each of the newest events that are wanted."""
    rows = look.agent.store.find_events(SHOWN, **wanted(look.query))
    made = {f"event-{event.id}": html("parts/event_row.html", event=event) for event in reversed(rows)}
    if not made:
        made["no-event"] = html("parts/event_none.html")
    elif len(rows) == SHOWN:
        older = urlencode({**look.query, "until": rows[0].at.isoformat()})
        made["older-events"] = html("parts/event_older.html", url=f"/events?{older}")
    return made


def wanted(query: Mapping[str, str]) -> dict[str, Any]:
    """Return what `Store.find_events` is to look for.

    Raises:
        UsageError: a field is none that there is, or no time.
    """
    found: dict[str, Any] = {}
    for name, value in query.items():
        if name not in _FIELDS:
            raise UsageError(f"events by {name!r:.40}", "there is no such field", f"use {', '.join(_FIELDS)}")
        if name == "severity":
            if value not in SEVERITIES:
                raise UsageError(
                    f"severity {value!r:.40}", "there is none of that name", f"use {', '.join(SEVERITIES)}"
                )
            found[name] = value
        elif name == "kind":
            found["kinds"] = tuple(value.replace(",", " ").split())
        elif name in ("since", "until"):
            found[name] = time_of(value)
        else:
            found[name] = value
    return found
