"""Bear a database that is away for a while: whoever follows a job waits for it, beside the loop, and goes on."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import threading
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from ugro_py.errors import StateError
from ugro_py.state._base import Part
from ugro_py.state.away import AwayError, hurry

AWAY_S = 60.0
"""So long a database may be away before those who wait for it give up; what runs goes on without them then."""

_BUSY_S = 1.0
_PAUSE_S = 0.25
_log = logging.getLogger("ugro.state")
P = ParamSpec("P")
T = TypeVar("T")


class Patience(Part):
    """The part of the store for asyncio loops: nothing that the database does holds them up."""

    async def patiently(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call what uses this store, in a thread; while the database is away, again and again.

        What was called must do no harm when it is called again after it failed with `AwayError`. A call that gets no
        answer at all is not made a second time; it is waited for.

        Raises:
            AwayError: the database has been away for `AWAY_S`.
        """
        outage, who = self.database.outage, object()
        work = functools.partial(call, *args, **kwargs)
        begun = time.monotonic()
        try:
            while True:
                running = _in_thread(work)
                try:
                    result = await self._answer(running, who, begun)
                    break
                except AwayError as error:
                    self._noted(who, begun, error.came_back)
                    if outage.away_s >= AWAY_S:
                        raise self._given_up() from error
                    await asyncio.sleep(_PAUSE_S)
        except BaseException:
            outage.gave_up(who)
            raise
        away_s = outage.worked(who)
        if away_s is not None:
            await self._tell(away_s)
        return result

    async def wholly(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `patiently`; who is cancelled meanwhile goes on when the call has ended, for its thread cannot be stopped.

        Raises:
            AwayError: the database has been away for `AWAY_S`.
        """
        work = asyncio.ensure_future(self.patiently(call, *args, **kwargs))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.gather(work, return_exceptions=True)
            raise

    async def _answer(self, running: asyncio.Future[T], who: object, begun: float) -> T:
        """Wait for a call in its thread; one without an answer counts as an outage while it lasts."""
        while True:
            done, _ = await asyncio.wait({running}, timeout=2 * _BUSY_S)
            if done:
                return running.result()
            self._noted(who, begun, "")
            if self.database.outage.away_s >= AWAY_S:
                running.add_done_callback(lambda late: late.cancelled() or late.exception())
                raise self._given_up()

    def _noted(self, who: object, begun: float, why: str) -> None:
        if self.database.outage.failed(who, begun, why):
            _log.warning("state database %s is away: %s", self.database.shown, why or "no answer")

    def _given_up(self) -> AwayError:
        outage = self.database.outage
        return AwayError(
            f"state database {self.database.shown}",
            f"it was away for {outage.away_s:.0f} s: {outage.why or 'no answer'}",
            "jobs go on; when it works again, `ugro status` has them followed again",
        )

    async def _tell(self, away_s: float) -> None:
        why = self.database.outage.why
        text = f"the state database was away for {away_s:.1f} s{': ' if why else ''}{why}"
        _log.warning("%s", text)
        data = {"seconds": round(away_s, 1)}
        with contextlib.suppress(StateError):
            await _in_thread(functools.partial(self._add_outage, text, data))

    def _add_outage(self, text: str, data: dict[str, float]) -> None:
        with self.database.write() as connection:
            self._event(connection, "database_away", text, severity="warning", data=data)


def _in_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """Run `work` in a thread of its own: one that hangs keeps nobody waiting, neither for a thread nor at the end."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]
        else:
            future.set_exception(error)

    def run() -> None:
        result, error = None, None
        try:
            with hurry(_BUSY_S):
                result = work()
        except BaseException as caught:  # noqa: BLE001  it is the caller's, in the loop
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="store", daemon=True).start()
    return future
