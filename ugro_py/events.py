"""What happened: events of the store for a terminal or as JSON lines, up to now or as they come."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ugro_py.display import safe_line
from ugro_py.errors import StateError, UsageError
from ugro_py.moments import exact

if TYPE_CHECKING:
    from ugro_py.api.client import Client
    from ugro_py.state import Store
    from ugro_py.state.rows import EventRow

POLL_S = 0.25
_BLOCK = 1000
_MOST_FAILURES = 30
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")


def since(text: str, now: datetime | None = None) -> datetime:
    """Return the time that `text` names: an age (`90s`, `30m`, `1h`, `2d`, `1w`) or an ISO 8601 time (UTC by default).

    Raises:
        UsageError: it is neither.
    """
    now = now or datetime.now(UTC)
    age = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?) ?(s|min|m|h|d|w)", text.strip())
    try:
        if age:
            return now - timedelta(seconds=float(age[1]) * _UNITS[age[2]])
        at = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError) as error:
        wanted = "give an age (90s, 30m, 1h, 2d, 1w) or a time (2026-01-20T12:00)"
        raise UsageError(f"{text!r:.60}", "is no time", wanted) from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def harmless(text: str) -> str:
    """Return a text as one line that a terminal only shows: no control characters, no colours."""
    return _COLOUR.sub("", safe_line(" ".join(text.splitlines())))


def as_json(event: EventRow) -> dict[str, Any]:
    """Return an event as plain JSON values; `id` grows with every event."""
    return {
        "id": event.id,
        "at": exact(event.at),
        "kind": event.kind,
        "severity": event.severity,
        "text": event.text,
        "job": event.job,
        "node": event.node,
        "rank": event.rank,
        "data": dict(event.data) if event.data is not None else None,
    }


def line_of(event: EventRow, form_json: bool = False) -> str:
    """Return an event as one line."""
    if form_json:
        return json.dumps(as_json(event))
    where = [event.job and f"job {event.job}", event.node and f"node {event.node}"]
    if event.rank is not None:
        where.append(f"rank {event.rank}")
    place = ", ".join(filter(None, where))
    text = f"{place}: {event.text}" if place else event.text
    return harmless(f"{event.at:%Y-%m-%d %H:%M:%S}Z  {event.severity:<7}  {event.kind:<14}  {text}")


def newest(store: Store, limit: int, **wanted: Any) -> list[EventRow]:
    """Return the newest `limit` events that fit (see `Store.find_events`), oldest first."""
    return store.find_events(limit, **wanted)


def from_json(values: Mapping[str, Any]) -> EventRow:
    """Return the event that `as_json` made JSON values of."""
    from ugro_py.state.rows import EventRow

    return EventRow(**{**values, "at": datetime.fromisoformat(values["at"])})


def over(client: Client, limit: int, follow: bool, wanted: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield events as JSON values from the agent: the newest `limit`, then with `follow` those that come.

    An agent that is restarted meanwhile is asked again after the last event it told of, so none is missed.
    """
    reached = client.get("/v1/events", limit=1)[-1:]
    after = reached[0]["id"] if reached else 0
    for event in client.get("/v1/events", limit=max(limit, 1), **wanted)[-limit:] if limit else ():
        after = max(after, event["id"])
        yield event
    failures = 0
    while follow:
        try:
            for message in client.events(after=after, **{**wanted, "since": None}):
                failures, after = 0, message["data"]["id"]
                yield message["data"]
        except StateError:
            failures += 1
            if failures > _MOST_FAILURES:
                raise
        time.sleep(1.0)


def follow(store: Store, after: int, **wanted: Any) -> Iterator[EventRow]:
    """Yield what fits of the events that come after the one with the id `after`, without an end.

    Args:
        store: the state store.
        after: the id of the last event that is known already.
        wanted: as of `Store.find_events`.
    """
    while True:
        # Asked before: what fits none of the wishes need not be looked through again and again.
        reached = store.newest_event()
        block = store.events_after(after, _BLOCK, **wanted)
        yield from block
        if len(block) == _BLOCK:
            after = block[-1].id
            continue
        after = max([reached, after, *(event.id for event in block)])
        time.sleep(POLL_S)
