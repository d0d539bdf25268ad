"""Run a coroutine so that a signal cancels it and what follows can be put in order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(work: Coroutine[Any, Any, T], runner: asyncio.Runner | None = None) -> T:
    """Return what `work` returns; it runs in the loop of `runner`, or in one of its own.

    Raises:
        asyncio.CancelledError: one of `SIGNALS` came before it had ended.
    """

    async def cancellable() -> T:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, task.cancel)
        try:
            return await task
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)

    return runner.run(cancellable()) if runner else asyncio.run(cancellable())
