"""Run a coroutine so that a signal cancels it and what follows can be put in order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns.

    Raises:
        asyncio.CancelledError: one of `SIGNALS` came before it had ended.
    """

    async def cancellable() -> T:
        task = asyncio.ensure_future(work)
        for number in SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await task

    return asyncio.run(cancellable())
