"""Keeps open pages up to date: each part of a page is made once when it changes, however many look at it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool

from ugro_py.api import sse
from ugro_py.api.auth import Caller
from ugro_py.api.standing import Standing
from ugro_py.api.view import AgentView
from ugro_py.errors import UgroError
from ugro_py.web.render import FORGERY_PLACE
from ugro_py.web.session import forgery_token

if TYPE_CHECKING:
    from markupsafe import Markup

T = TypeVar("T")
Parts = Mapping[str, str]
"""HTML of the elements of a page that change, by their ids, in order."""

ROUND_S = 1.0
_MOST_TOPICS, _MOST_TOPICS_EACH = 400, 40
_MAKERS: dict[str, tuple[Maker, int]] = {}
_log = logging.getLogger("ugro.web")


@dataclass(frozen=True)
class Look:
    """Who looks at a page of which agent, with which query.

    Looks that are equal in `person`'s name, `admin` and `query` see the same: what is made for one is for all.

    `memory` is the maker's own, from one round to the next.
    """

    agent: AgentView
    who: Caller
    query: Mapping[str, str]
    shared: Shared
    memory: dict[str, Any] = field(default_factory=dict, compare=False)

    def may_change(self, user: str) -> bool:
        """Say whether who looks may change what belongs to `user`."""
        return self.who.admin or self.who.person.user == user


class Shared:
    """What several pages are made of, worked out once for all who look at the same moment; from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, Any]] = {}

    def get(self, name: str, make: Callable[[], T], age_s: float = 0.9) -> T:
        """Return what `make` gives, or what it gave at most `age_s` seconds ago."""
        with self._lock:
            known = self._kept.get(name)
            if known is None or self._clock() - known[0] > age_s:
                known = self._kept[name] = (self._clock(), make())
            found: T = known[1]
        return found

    def forget(self) -> None:
        """Have everything made anew: something was changed."""
        with self._lock:
            self._kept.clear()


Maker = Callable[[Look], Parts]


def live(page: str, rounds: int = 1) -> Callable[[Maker], Maker]:
    """Register what makes the parts of a page, each so many rounds.

    The forms in them have `ugro_py.web.render.FORGERY_PLACE` as their token.
    """

    def register(make: Maker) -> Maker:
        _MAKERS[page] = (make, rounds)
        return make

    return register


def has(page: str) -> bool:
    """Say whether a page can be followed."""
    return page in _MAKERS


def parts_of(request: Request, page: str, who: Caller, query: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return what a template needs to show a page that goes on by itself: `parts`, as they are now, and `live_url`.

    Raises:
        UgroError: they cannot be made.
    """
    from markupsafe import Markup

    wanted = {key: value for key, value in (query or {}).items() if value}
    # Not of what others were shown: a page that is loaded shows what was done a moment ago.
    found = _MAKERS[page][0](Look(request.app.state.agent, who, wanted, Shared()))
    # Made of our own templates, which escape what they show.
    whole: Markup = Markup("\n".join(found.values()).replace(FORGERY_PLACE, forgery_token(request)))  # noqa: S704
    return {"parts": whole, "live_url": live_url(page, wanted)}


def live_url(page: str, query: Mapping[str, str]) -> str:
    """Return where a page is followed; what is empty in its query is left out."""
    wanted = {key: value for key, value in query.items() if value}
    return f"/live/{page}" + (f"?{urlencode(wanted)}" if wanted else "")


@dataclass
class _Part:
    html: str
    version: int


@dataclass
class _Topic:
    """A page with its query, as one kind of viewer sees it."""

    make: Callable[[], Parts]
    round_s: float
    parts: dict[str, _Part] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    ordered: int = 0
    version: int = 0
    trouble: str = ""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    viewers: int = 0
    task: asyncio.Task[None] | None = None


class Live:
    """The pages that somebody looks at now.

    Args:
        app: the application.
        round_s: how often a page is looked at, in seconds; some pages each so many rounds only.
    """

    def __init__(self, app: FastAPI, round_s: float = ROUND_S) -> None:
        self._app = app
        self.round_s = round_s
        self.shared = Shared()
        self._topics: dict[tuple[str, str, bool, Hashable], _Topic] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._poke = asyncio.Event()
        self.made = 0

    def changed(self) -> None:
        """Look at all open pages now: somebody did something. From any thread."""
        self.shared.forget()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._poke.set()
        self._poke = asyncio.Event()

    async def follow(
        self, page: str, who: Caller, query: Mapping[str, str], token: str, standing: Standing
    ) -> AsyncIterator[bytes]:
        """Yield what changes of a page, as server-sent events: first all of it, then each part that is another.

        Args:
            page: as it was registered.
            who: looks.
            query: of the page.
            token: of the viewer, against forged requests.
            standing: of the viewer; there is no more of it when that ends.
        """
        self._loop = asyncio.get_running_loop()
        key = (page, who.person.user, who.admin, tuple(sorted(query.items())))
        topic = self._topics.get(key)
        if topic is None:
            theirs = sum(person == who.person.user for _, person, *_ in self._topics)
            if theirs >= _MOST_TOPICS_EACH or len(self._topics) >= _MOST_TOPICS:
                yield sse.message("too many different pages are open", kind="trouble")
                return
            look = Look(self._app.state.agent, who, query, self.shared)
            make, rounds = _MAKERS[page]
            topic = self._topics[key] = _Topic(lambda: make(look), rounds * self.round_s)
            topic.task = asyncio.create_task(self._keep(topic), name=f"page {page}")
        topic.viewers += 1
        try:
            async for message in self._tell(topic, token, standing):
                yield message
        finally:
            topic.viewers -= 1
            if topic.viewers == 0 and self._topics.get(key) is topic:
                del self._topics[key]
                if topic.task is not None:
                    topic.task.cancel()
                    self._ending.add(topic.task)
                    topic.task.add_done_callback(self._ending.discard)

    async def ended(self) -> None:
        """Make nothing more, and return when nothing of it runs."""
        tasks = [topic.task for topic in self._topics.values() if topic.task is not None]
        tasks += self._ending
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _tell(self, topic: _Topic, token: str, standing: Standing) -> AsyncIterator[bytes]:
        yield sse.KEEP_ALIVE
        seen, ordered, trouble, heard = 0, 0, "", time.monotonic()
        closing = self._app.state.closing
        while not closing.is_set() and await standing.lasts():
            changed = topic.changed
            if topic.version > seen or topic.trouble != trouble:
                out = b""
                if topic.trouble != trouble:
                    trouble = topic.trouble
                    out += sse.message(trouble, kind="trouble")
                news = {name: part.html for name, part in topic.parts.items() if part.version > seen}
                whole = topic.ordered > ordered
                if news or whole:
                    seen, ordered = topic.version, topic.ordered
                    data = {"parts": news, "order": topic.order if whole else None}
                    out += sse.message(data, kind="parts").replace(FORGERY_PLACE.encode(), token.encode())
                if out:
                    yield out
                    heard = time.monotonic()
            elif time.monotonic() - heard > sse.KEEP_ALIVE_S:
                yield sse.KEEP_ALIVE
                heard = time.monotonic()
            try:
                async with asyncio.timeout(1.0):
                    await changed.wait()
            except TimeoutError:
                continue

    async def _keep(self, topic: _Topic) -> None:
        while not self._app.state.closing.is_set():
            begun, poke = time.monotonic(), self._poke
            try:
                found, trouble = await run_in_threadpool(topic.make), ""
            except UgroError as error:
                found, trouble = None, str(error)
            except Exception:  # noqa: BLE001  a fault in one page must not leave those who look at it without a word
                _log.exception("a page could not be made")
                found, trouble = None, "an error inside the agent; see its log"
            self.made += 1
            if self._take(topic, found, trouble):
                topic.changed.set()
                topic.changed = asyncio.Event()
            # However long it took to make: no more than a third of the time goes into one page.
            took = time.monotonic() - begun
            await asyncio.sleep(min(2 * took, topic.round_s))
            with suppress(TimeoutError):
                async with asyncio.timeout(max(topic.round_s - 2 * took, 2 * took - topic.round_s, 0)):
                    await poke.wait()

    @staticmethod
    def _take(topic: _Topic, found: Parts | None, trouble: str) -> bool:
        different = topic.trouble != trouble
        topic.trouble = trouble
        if found is None:
            return different
        news = {name: html for name, html in found.items() if name not in topic.parts or topic.parts[name].html != html}
        order = tuple(found)
        if not news and order == topic.order:
            return different
        topic.version += 1
        if order != topic.order:
            topic.order, topic.ordered = order, topic.version
            topic.parts = {name: topic.parts[name] for name in order if name in topic.parts}
        for name, html in news.items():
            topic.parts[name] = _Part(html, topic.version)
        return True
