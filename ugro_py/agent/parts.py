"""The parts of the agent that run beside its loop: each in a task of its own that is started again when it fails."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from ugro_py.errors import StateError, UgroError
from ugro_py.state import Store

Run = Callable[[asyncio.Event], Awaitable[None]]
"""Runs a part until the event is set."""

_log = logging.getLogger("ugro.agent")
_BACKOFF_S = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_WELL_AFTER_S = 60.0
_END_S = 3.0


class Parts:
    """Runs parts and keeps them running; the failure of one is an event and a pause, never the agent's end."""

    def __init__(self, store: Store, backoff_s: tuple[float, ...] = _BACKOFF_S) -> None:
        self._store = store
        self._backoff_s = backoff_s
        self._tasks: dict[str, tuple[asyncio.Task[None], asyncio.Event]] = {}

    def start(self, name: str, make: Callable[[], Run]) -> None:
        """Run the part that `make` returns; anew with what it returns then, as often as it ends by itself."""
        stop = asyncio.Event()
        self._tasks[name] = (asyncio.create_task(self._keep(name, make, stop), name=f"part {name}"), stop)

    async def restart(self, name: str, make: Callable[[], Run]) -> None:
        """Stop a part and start it with what has changed."""
        await self.stop(name)
        self.start(name, make)

    async def stop(self, *names: str) -> None:
        """Stop the named parts, all if none is named; one that does not end within seconds is cancelled."""
        ending = [self._tasks.pop(name) for name in names or list(self._tasks) if name in self._tasks]
        for _, stop in ending:
            stop.set()
        tasks = [task for task, _ in ending]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_END_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, name: str, make: Callable[[], Run], stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while not stop.is_set():
            begin = loop.time()
            try:
                await make()(stop)
                if stop.is_set():
                    return
                text = f"{name} ended by itself"
            except UgroError as error:
                text = f"{name}: {error}"
            except Exception as error:  # noqa: BLE001  whatever one part does, the others go on
                _log.exception("%s failed", name)
                text = f"{name}: {type(error).__name__}: {error}"
            if loop.time() - begin > _WELL_AFTER_S:
                failures = 0
            pause = self._backoff_s[min(failures, len(self._backoff_s) - 1)]
            failures += 1
            _log.error("%s; started again in %g s", text, pause)
            with contextlib.suppress(StateError):
                await asyncio.to_thread(self._store.add_event, "part_failed", text, severity="error")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause)
