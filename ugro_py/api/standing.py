"""Whether a stream may go on: who began it may have signed out since, or be known and trusted no more."""

from __future__ import annotations

import time

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

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
