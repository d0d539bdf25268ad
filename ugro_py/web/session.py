"""Who looks at a page: sessions of browsers, one-time links that begin them, and the token against forged requests."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request
from starlette.exceptions import HTTPException

from ugro_py import users
from ugro_py.api.auth import Caller, caller_of
from ugro_py.errors import StateError
from ugro_py.state.rows import WebSessionRow
from ugro_py.users import Person
from ugro_py.web.cookie import key_of

if TYPE_CHECKING:
    from ugro_py.api.tokens import Tokens
    from ugro_py.state import Store

SESSION_S = 7 * 86400.0
"""A session ends after so long, however much it is used;"""
IDLE_S = 86400.0
"""and earlier where nothing was asked in it for so long."""
LINK_S = 300.0
"""A one-time link that nobody used in this time is worth nothing."""
_MOST_SESSIONS = 50
"""Of one user; the least used of theirs ends for a new one."""
_MOST_LINKS = 50
"""Of one user that nobody has followed yet; the oldest of theirs is worth nothing then."""
_KEEP_S = 600.0
"""So often the store is told that a session is used."""
_MARKED_S = 300.0
"""How long it is known here that a session was ended; then the store alone says so."""


class LoginNeeded(Exception):
    """Nobody is known here: a browser is sent to the page /login."""


@dataclass(frozen=True)
class Grant:
    """Whose a session is, and what it stands on: the account `uid` (and `gid`), or a token, by its mark."""

    user: str
    uid: int | None
    gid: int | None = None
    token_mark: str | None = None


@dataclass
class Session:
    """A browser that somebody has signed in with. Times are in seconds since the epoch, as others will read them."""

    grant: Grant
    ends: float
    seen: float
    kept: float
    notices: list[tuple[str, str, str]] = field(default_factory=list)
    """What was done: its kind, the text, and the id of the field on the next page that it belongs to, or ""."""

    def lives(self, now: float) -> bool:
        """Say whether it has not ended by itself."""
        return now < self.ends and now - self.seen < IDLE_S


_NOBODY = Grant("", None)


class Sessions:
    """Sessions, which the store keeps over a restart, and one-time links, which it does not.

    What a browser holds is kept as a digest only. All methods may be called from any thread; those that may ask the
    store (`redeem`, `begin`, `person`, `end`) not from an event loop. While it is away, who was seen before is known.

    Args:
        store: keeps the sessions.
        clock: seconds since the epoch.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._secret = secrets.token_bytes(32)
        self._sessions: dict[str, Session] = {}
        self._links: dict[str, tuple[Person, int | None, str | None, float]] = {}

    def link(self, person: Person, *, gid: int | None = None, token: str | None = None) -> str:
        """Return a code that begins one session of `person`, within `LINK_S` seconds; what `begin` takes goes along."""
        code, now = secrets.token_urlsafe(32), self._clock()
        with self._lock:
            self._links = {key: link for key, link in self._links.items() if link[-1] > now}
            theirs = [key for key, link in self._links.items() if link[0].user == person.user]
            for oldest in theirs[: max(0, len(theirs) - _MOST_LINKS + 1)]:
                del self._links[oldest]
            self._links[_digest(code)] = (person, gid, token, now + LINK_S)
        return code

    def redeem(self, code: str) -> str | None:
        """Begin the session that a link is for and return its key; None if it was used, has expired or never was.

        Raises:
            StateError: the store cannot be used.
        """
        with self._lock:
            found = self._links.pop(_digest(code), None)
        if found is None or found[-1] <= self._clock():
            return None
        person, gid, token, _ = found
        return self.begin(person, gid=gid, token=token)

    def begin(self, person: Person, *, gid: int | None = None, token: str | None = None) -> str:
        """Begin a session of `person` and return its key, for the cookie.

        Args:
            person: whose it is. With a `uid` it lasts as long as that account has this name.
            gid: of an account without a name.
            token: the one that it is begun with: it ends with that.

        Raises:
            StateError: the store cannot be used.
        """
        key, now = secrets.token_urlsafe(32), self._clock()
        name = _digest(key)
        if token is None:
            grant = Grant(person.user, person.uid, gid)
        else:
            grant = Grant(person.user, None, None, _mark(name, token))
        new = Session(grant, now + SESSION_S, now, now)
        row = WebSessionRow(name, **asdict(grant), ends=_utc(new.ends), seen=_utc(now))
        gone = self._store.keep_web_session(row, idle_since=_utc(now - IDLE_S), most=_MOST_SESSIONS)
        with self._lock:
            self._mark_ended(gone, now)
            self._sessions[name] = new
        return key

    def person(self, key: str | None, tokens: Tokens) -> Person | None:
        """Return who is signed in with this key, with the groups they have now; None for nobody.

        A session whose account or token is no more has ended.

        Raises:
            StateError: the store cannot be used, and the session was not seen since the agent began.
        """
        found = self._found(key)
        if key is None or found is None:
            return None
        grant, valid = found.grant, tokens.now()
        if grant.token_mark is not None:
            name = _digest(key)
            known = any(user == grant.user and _mark(name, token) == grant.token_mark for token, user in valid.items())
            if not known and tokens.sure:
                self.end(key)
            return users.person_named(grant.user) if known else None
        if grant.uid is None:
            return users.person_named(grant.user)
        person = users.person_of(grant.uid, grant.gid)
        return person if person.user == grant.user else None  # the number is somebody else's now, or nobody's

    def _found(self, key: str | None) -> Session | None:
        if not key:
            return None
        name, now = _digest(key), self._clock()
        with self._lock:
            found = self._sessions.get(name)
        if found is None:
            row = self._store.web_session(name)
            if row is None:
                return None
            grant = Grant(row.user, row.uid, row.gid, row.token_mark)
            read = Session(grant, row.ends.timestamp(), row.seen.timestamp(), row.seen.timestamp())
            with self._lock:  # nor one that was ended meanwhile: that leaves a mark
                found = self._sessions.setdefault(name, read)
        if not found.lives(now):
            return None
        found.seen = now
        if now - found.kept >= _KEEP_S:
            found.kept = now
            with suppress(StateError):  # it is tried again: a session is not worth a word to who uses it
                self._store.use_web_session(name, _utc(now))
        return found

    def known(self, key: str | None) -> Session | None:
        """Return the session with this key if it lives and was used since the agent began; asks no store."""
        with self._lock:
            found = self._sessions.get(_digest(key or ""))
        return found if found is not None and found.lives(self._clock()) else None

    def end(self, key: str | None) -> None:
        """End a session.

        Raises:
            StateError: the store cannot be used; the session goes on.
        """
        if not key:
            return
        name = _digest(key)
        self._store.end_web_session(name)
        with self._lock:
            self._mark_ended([name], self._clock())

    def _mark_ended(self, names: Iterable[str], now: float) -> None:
        # For a while: a request may have read the row of one before it was removed.
        kept = {name: one for name, one in self._sessions.items() if now < max(one.ends, one.seen + _MARKED_S)}
        self._sessions = kept | {name: Session(_NOBODY, 0.0, now, now) for name in names}

    def forgery_token(self, key: str | None, otherwise: str) -> str:
        """Return what a form must bring along, so that no other page can send it.

        It follows from the session's key, so that pages which are open may be used after a restart too; without one
        from `otherwise` and a secret of this process.
        """
        secret, whose = (key, "form") if key else ("", otherwise)
        return hmac.new(secret.encode("utf-8", "replace") or self._secret, whose.encode(), hashlib.sha256).hexdigest()


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


def _mark(name: str, token: str) -> str:
    return hmac.new(name.encode(), token.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def sessions_of(request: Request) -> Sessions:
    """Return the sessions of the application."""
    found: Sessions = request.app.state.sessions
    return found


def session_of(request: Request) -> Session | None:
    """Return the session that the request belongs to, after `viewer_of` has found who it is."""
    return sessions_of(request).known(key_of(request))


def forgery_token(request: Request) -> str:
    """Return the token that forms of this page carry."""
    uid = request.state.peer.uid
    return sessions_of(request).forgery_token(key_of(request), "nobody" if uid is None else f"uid {uid}")


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
