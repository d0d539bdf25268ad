"""Whether an answer may go on: who asked for it may have signed out since, or be known and trusted no more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, Callable, Iterable, Mapping

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from ugro_py.api.auth import Caller, caller_of
from ugro_py.errors import StateError

CHECK_S = 3.0
"""So often it is asked. Streams that have nothing to tell must not wait for longer without asking."""


class Standing:
    """What a stream asks as it goes on.

    Args:
        request: that began it.
        who: made it, as they were known then.
    """

    def __init__(self, request: Request, who: Caller) -> None:
        self._request, self._who = request, who
        self._asked_at = time.monotonic()
        self._lasts = True

    async def lasts(self) -> bool:
        """Say whether it is the same person as at first, with the same rights. To go on looking is to use a session."""
        # Over a Unix socket the kernel vouches for the process as long as it is connected.
        if self._lasts and self._who.door != "socket" and time.monotonic() - self._asked_at >= CHECK_S:
            self._asked_at = time.monotonic()
            self._lasts = await run_in_threadpool(self._ask)
        return self._lasts

    def _ask(self) -> bool:
        try:
            found = caller_of(self._request)
        except HTTPException:
            return False
        except StateError:
            return True  # the database is away for a while: it took nothing from anybody
        return (found.person.user, found.admin) == (self._who.person.user, self._who.admin)


class Download(StreamingResponse):
    """A long answer that is cut off, so that it is not taken for whole, where who asked for it may have it no more.

    Args:
        content: the answer.
        request: that asked for it.
        who: made it.
        media_type, headers: of the answer.
    """

    def __init__(
        self, content: Iterable[bytes] | AsyncIterable[bytes], request: Request, who: Caller, *, media_type: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(content, media_type=media_type, headers=headers)
        self._standing = Standing(request, who)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, and look meanwhile: a reader that takes little at a time may keep it waiting for long."""
        watching = asyncio.create_task(self._watch(scope["state"]["hang_up"]))
        try:
            await super().__call__(scope, receive, send)
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    async def _watch(self, hang_up: Callable[[], None]) -> None:
        while await self._standing.lasts():
            await asyncio.sleep(CHECK_S)
        hang_up()
