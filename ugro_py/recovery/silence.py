"""Which nodes of a gang have fallen silent, and getting in touch with them again.

A node's session sends a heartbeat a second. The times are chosen so that a dead host is known within 5 s of its end,
while a cut of 2 s costs nothing: TCP sends again at 0.2, 0.6, 1.4 and 3.0 s, so behind such a cut the silence lasts
4 s at most.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from ugro_py.cluster import Node
from ugro_py.errors import NodeError
from ugro_py.transport import Session

# After so long without a word a node is suspected: it is tried over a connection of its own.
SILENCE_S = 2.2
# After so long without a word and without a new connection it is given up.
NODE_LOST_S = 4.4
# A loop that was held up for so long (a busy machine) has not listened: what was silence starts anew.
_HELD_UP_S = 1.0


class Silence:
    """Watches the sessions of one gang.

    Args:
        nodes: its nodes by name.
        sessions: open sessions by node name; a lost one is replaced in this mapping.
        expected: says whether a node has still something to tell.
        follow: has a node send what it writes, over a new session.
        suspect, back, lose: told what becomes of a node; `lose` with the reason.
    """

    def __init__(
        self,
        nodes: Mapping[str, Node],
        sessions: dict[str, Session],
        *,
        expected: Callable[[str], bool],
        follow: Callable[[Session], object],
        suspect: Callable[[str], None],
        back: Callable[[str], None],
        lose: Callable[[str, str], None],
    ) -> None:
        self._nodes = nodes
        self._sessions = sessions
        self._expected = expected
        self._follow = follow
        self._suspect, self._back, self._lose = suspect, back, lose
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._looked = self._heard_from = time.monotonic()

    def look(self) -> None:
        """Suspect every node that has been silent for too long; to be called several times a second."""
        now = time.monotonic()
        if now - self._looked > _HELD_UP_S:
            self._heard_from = now
        self._looked = now
        for name, session in self._sessions.items():
            if now - self._last_heard(session) > SILENCE_S:
                self.recover(name)

    def _last_heard(self, session: Session) -> float:
        return max(session.last_heard, self._heard_from)

    def recover(self, name: str) -> None:
        """Get in touch with a node again, or give it up in time."""
        task = self._tasks.get(name)
        if self._expected(name) and (task is None or task.done()):
            self._suspect(name)
            self._tasks[name] = asyncio.create_task(self._reconnect(name))

    async def regained(self, name: str) -> bool:
        """Wait until a node whose session broke answers again over another one; False if it is given up."""
        broken = self._sessions[name]
        self.recover(name)
        if name in self._tasks:
            await asyncio.wait({self._tasks[name]})
        return self._sessions[name] is not broken

    async def _reconnect(self, name: str) -> None:
        """Connect anew until it works, the old session speaks again, or the node is given up."""
        old = self._sessions[name]
        why = f"no answer for {NODE_LOST_S:g} s"
        while (left := self._last_heard(old) + NODE_LOST_S - time.monotonic()) > 0:
            opening = asyncio.ensure_future(Session.open(self._nodes[name], fresh=True, timeout_s=max(0.5, left)))
            while not opening.done():
                try:
                    await asyncio.wait({opening}, timeout=0.1)
                except asyncio.CancelledError:
                    opening.cancel()  # else a session that nobody closes comes of it
                    raise
                if not old.closed and time.monotonic() - old.last_heard < SILENCE_S:
                    await _give_up(opening)
                    self._back(name)
                    return
            try:
                fresh = opening.result()
            except NodeError as error:
                if not error.came_back.startswith("no answer"):
                    why = error.came_back
                await asyncio.sleep(min(0.3, max(0.0, left)))
                continue
            self._sessions[name] = fresh
            await asyncio.gather(old.close(), self._follow(fresh))  # type: ignore[call-overload]
            self._back(name)
            return
        if self._expected(name):
            self._lose(name, why)

    def cancel(self) -> None:
        """Give up getting in touch with anybody."""
        for task in self._tasks.values():
            task.cancel()


async def _give_up(opening: asyncio.Future[Session]) -> None:
    opening.cancel()
    try:
        await (await opening).close()
    except (asyncio.CancelledError, NodeError):
        return
