"""When a running job is ended: rules, and what people and the queue want of it, looked up beside the loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ugro_py import endings
from ugro_py.plan import STOP_GRACE_S
from ugro_py.state import JobRow, Store

EVERY_S = 0.5
_CHECK_S = 2.0


@dataclass(frozen=True)
class Rules:
    """When an attempt is ended from here. Times are in seconds.

    `stall_timeout_s`: no rank wrote anything for so long; 0: never. `grace_s`: what ranks get to write a checkpoint
    when they are told to stop. `time_left_s`: of the job's time limit. `restart_frozen`: a rank that was stopped by a
    signal fails the gang (there are retries left), instead of only being told of. `on_event` is given every event of
    a node.
    """

    stall_timeout_s: float = 0.0
    grace_s: float = STOP_GRACE_S
    time_left_s: float | None = None
    time_limit_s: float | None = None
    restart_frozen: bool = False
    on_event: Callable[[str, Mapping[str, Any]], None] = field(default=lambda node, event: None)


class Orders:
    """The newest that the store says of a job. While the database is away what it said last holds.

    Args:
        store: the state store.
        job: the job.
        changed: called when something new is asked for, or `error` is set.

    Attributes:
        row: the job as it was read last.
        room_for: the job that it is to make room for.
        error: why nothing is looked up any more: the database stayed away, say.
    """

    row: JobRow

    def __init__(self, store: Store, job: str, changed: Callable[[], None]) -> None:
        self.room_for: str | None = None
        self.error: Exception | None = None
        self._store = store
        self._job = job
        self._changed = changed
        self._task: asyncio.Task[None] | None = None

    async def look(self) -> None:
        """Look now.

        Raises:
            LostControlError: the job is another controller's.
            StateError: the database cannot be used.
        """
        self.row, self.room_for = await self._store.patiently(self._read)

    def _read(self) -> tuple[JobRow, str | None]:
        self._store.check_control(self._job)
        return self._store.job(self._job), self._store.preempt_for(self._job)

    async def check(self) -> None:
        """Ask, before nodes are touched, whether the job is still this controller's.

        A database that does not answer says nothing, and is not waited for.

        Raises:
            LostControlError: it is not.
        """
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._store.patiently(self._store.check_control, self._job), _CHECK_S)

    def reason(self, failed: bool) -> str | None:
        """Return what the nodes are to be told as somebody wants the attempt to end; of one that failed only a stop."""
        if self.row.stop_requested:
            return endings.STOPPED
        if failed:
            return None
        if self.row.held:
            return endings.held(str(self.row.held_by))
        return endings.made_room(self.room_for) if self.room_for else None

    def keep(self) -> None:
        """Look every `EVERY_S`, until `end`."""
        self._task = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        try:
            while True:
                await asyncio.sleep(EVERY_S)
                before = self._asked()
                await self.look()
                if self._asked() != before:
                    self._changed()
        except Exception as error:  # noqa: BLE001  whoever follows the job raises it
            self.error = error
            self._changed()

    def _asked(self) -> tuple[object, ...]:
        row = self.row
        return row.stop_requested, row.stop_force, row.held, self.room_for

    async def end(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
