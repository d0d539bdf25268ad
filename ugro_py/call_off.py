"""Work on a job's start that ends at once when the job is stopped, cancelled or held meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

from ugro_py.errors import StateError, UgroError
from ugro_py.state import JobRow, Store

T = TypeVar("T")
POLL_S = 0.2
STOPPED = "stopped on request before its ranks ran"


class CalledOffError(UgroError):
    """A job is not to start any more. `held`: it waits until it is released; otherwise it is to end."""

    exit_code = 10

    def __init__(self, job: str, reason: str, *, held: bool) -> None:
        self.reason, self.held = reason, held
        super().__init__(f"start job {job}", reason)


def called_off(row: JobRow) -> CalledOffError | None:
    """Return why a job is not to start (again), None where it may."""
    if row.stop_requested or not row.active:
        return CalledOffError(row.name, row.reason if not row.active and row.reason else STOPPED, held=False)
    if row.held:
        return CalledOffError(row.name, f"held by {row.held_by or 'somebody'}", held=True)
    return None


async def unless_called_off(store: Store, job: str, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns. It is cancelled, and has put everything back, where the job is called off first.

    Raises:
        CalledOffError: that happened.
    """
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({task}, timeout=POLL_S))[0]:
            why = None
            with contextlib.suppress(StateError):  # whether the store works is what `work` itself finds out
                why = called_off(await asyncio.to_thread(store.job, job))
            if why is not None and not task.done():
                task.cancel()
                await asyncio.wait({task})
                if task.cancelled():
                    raise why
    except BaseException:
        task.cancel()
        await asyncio.wait({task})
        raise
    return task.result()


async def pause(store: Store, job: str, seconds: float) -> None:
    """Sleep, but not on where the job is called off meanwhile."""
    with contextlib.suppress(CalledOffError):
        await unless_called_off(store, job, asyncio.sleep(seconds))
