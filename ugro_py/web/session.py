"""Who looks at a page: sessions of browsers, one-time links that begin them, and the token against forged requests."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request
from starlette.exceptions import HTTPException

from ugro_py.api.auth import Caller, caller_of
from ugro_py.users import Person

SESSION_S = 7 * 86400.0
"""A session ends after so long, however much it is used;"""
IDLE_S = 86400.0
"""and earlier where nothing was asked in it for so long."""
LINK_S = 300.0
"""A one-time link that nobody used in this time is worth nothing."""
_MOST_SESSIONS, _MOST_LINKS = 2000, 500
COOKIE = "ugro_session"


class LoginNeeded(Exception):
    """Nobody is known here: a browser is sent to the page /login."""


@dataclass
class Session:
    """A browser that somebody has signed in with."""

    person: Person
    ends: float
    seen: float
    notices: list[tuple[str, str]] = field(default_factory=list)


class Sessions:
    """Sessions and one-time links, in memory: a restart of the agent signs everybody out.

    What a browser holds is kept as a digest only. All methods may be called from any thread.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._secret = secrets.token_bytes(32)
        self._sessions: dict[bytes, Session] = {}
        self._links: dict[bytes, tuple[Person, float]] = {}

    def link(self, person: Person) -> str:
        """Return a code that begins one session of `person`, within `LINK_S` seconds."""
        code, now = secrets.token_urlsafe(32), self._clock()
        with self._lock:
            self._links = {key: link for key, link in self._links.items() if link[1] > now}
            while len(self._links) >= _MOST_LINKS:
                del self._links[next(iter(self._links))]
            self._links[_digest(code)] = (person, now + LINK_S)
        return code

    def redeem(self, code: str) -> Person | None:
        """Return whose link it is, once; None for one that was used, has expired or never was."""
        with self._lock:
            person, ends = self._links.pop(_digest(code), (None, 0.0))
        return person if ends > self._clock() else None

    def begin(self, person: Person) -> str:
        """Begin a session of `person` and return its key, for the cookie."""
        key, now = secrets.token_urlsafe(32), self._clock()
        with self._lock:
            self._sessions = {name: one for name, one in self._sessions.items() if _lives(one, now)}
            while len(self._sessions) >= _MOST_SESSIONS:
                del self._sessions[min(self._sessions, key=lambda name: self._sessions[name].seen)]
            self._sessions[_digest(key)] = Session(person, now + SESSION_S, now)
        return key

    def get(self, key: str | None) -> Session | None:
        """Return the session with this key, None where there is none or it has ended."""
        if not key:
            return None
        now = self._clock()
        with self._lock:
            found = self._sessions.get(_digest(key))
            if found is None or not _lives(found, now):
                return None
            found.seen = now
        return found

    def end(self, key: str | None) -> None:
        """End a session."""
        with self._lock:
            self._sessions.pop(_digest(key or ""), None)

    def forgery_token(self, whose: str) -> str:
        """Return what a form of this session (or account) must bring along, so that no other page can send it."""
        return hmac.new(self._secret, whose.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()


def _lives(session: Session, now: float) -> bool:
    return now < session.ends and now - session.seen < IDLE_S


def sessions_of(request: Request) -> Sessions:
    """Return the sessions of the application."""
    found: Sessions = request.app.state.sessions
    return found


def cookie_name(request: Request) -> str:
    """Return the cookie's name: browsers share cookies among all ports of a host, so it has the port in it."""
    port = request.url.port
    return f"{COOKIE}_{port}" if port else COOKIE


def key_of(request: Request) -> str | None:
    """Return the session's key that the browser sent."""
    return request.cookies.get(cookie_name(request))


def session_of(request: Request) -> Session | None:
    """Return the session that the request belongs to."""
    return sessions_of(request).get(key_of(request))


def signed_out(request: Request) -> bool:
    """Say whether the session that a stream was begun in has ended. To go on looking is to use it."""
    return request.state.viewer.door == "web" and session_of(request) is None


def forgery_token(request: Request) -> str:
    """Return the token that forms of this page carry."""
    if session_of(request) is not None:
        whose = f"session {key_of(request)}"
    else:
        uid = request.state.peer.uid
        whose = "nobody" if uid is None else f"uid {uid}"
    return sessions_of(request).forgery_token(whose)


def viewer_of(request: Request) -> Caller:
    """Return who looks at a page, as the API knows them: by the kernel, by a token or by a session.

    Raises:
        LoginNeeded: nobody is known.
    """
    try:
        caller = caller_of(request)
    except HTTPException as error:
        raise LoginNeeded from error
    request.state.viewer = caller
    return caller


Viewer = Annotated[Caller, Depends(viewer_of)]
