"""Server-sent events: a stream of JSON values that a reader can take up again where it was cut off."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import Request
from starlette.responses import StreamingResponse

KEEP_ALIVE = b": still here\n\n"
KEEP_ALIVE_S = 10.0
"""A reader that hears nothing at all for longer than this may take the connection for dead."""


def message(data: Any, event_id: object = None, kind: str | None = None) -> bytes:
    """Return one event. JSON has no line ends outside of texts, where they are escaped, so it is one line."""
    head = (f"id: {event_id}\n" if event_id is not None else "") + (f"event: {kind}\n" if kind else "")
    return f"{head}data: {json.dumps(data)}\n\n".encode()


def stream(content: AsyncIterator[bytes]) -> StreamingResponse:
    """Return `content` as an event stream that nobody keeps."""
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(content, media_type="text/event-stream", headers=headers)


def place(request: Request, otherwise: int) -> int:
    """Return where the reader was: its `Last-Event-ID`, or `otherwise`."""
    said = request.headers.get("last-event-id", "")
    return int(said) if said.isascii() and said.isdigit() and len(said) < 19 else otherwise
