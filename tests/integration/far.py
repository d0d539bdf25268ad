# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A long way to a host: a port of this machine that passes everything on to another address, late."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def far_away(address: str, port: int, delay_s: float, listen: str = "127.0.0.1") -> Iterator[int]:
    """Give a port of `listen` behind which is `address`, each way `delay_s` seconds away."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def serve() -> asyncio.Server:
        return await asyncio.start_server(lambda *pair: _connect(address, port, delay_s, *pair), listen, 0)

    server = asyncio.run_coroutine_threadsafe(serve(), loop).result(10)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _end(server: asyncio.Server) -> None:
    server.close()
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


async def _connect(
    address: str, port: int, delay_s: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    far_reader, far_writer = await asyncio.open_connection(address, port)
    with suppress(asyncio.CancelledError):  # the end of the test; streams would complain of a task that is cancelled
        await asyncio.gather(_pass(reader, far_writer, delay_s), _pass(far_reader, writer, delay_s))


async def _pass(source: asyncio.StreamReader, target: asyncio.StreamWriter, delay_s: float) -> None:
    """Pass on what comes, each piece when its time has come; many are under way at once."""
    loop = asyncio.get_running_loop()
    with suppress(ConnectionError):
        while data := await source.read(1 << 16):
            loop.call_later(delay_s, target.write, data)
    loop.call_later(delay_s, target.close)
