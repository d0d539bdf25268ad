# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Logs of a job on their way to a receiver of Loki's push API, for the tests of `ugro_py.loki.part`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from tests.unit.job_store import JobStore
from tests.unit.loki_sink import LokiSink, loki_sink
from ugro_py.loki.part import Shipper
from ugro_py.loki.push import Pusher

PATIENCE_S = 60


@pytest.fixture
def sink() -> Iterator[LokiSink]:
    with loki_sink() as sink:
        yield sink
        assert sink.faults == []


def shipping(
    store: Any, sink: LokiSink, during: Callable[[Shipper], Awaitable[None]], *, timeout_s: float = 20.0, **options: Any
) -> Shipper:
    """Ship while `during` runs; then stop."""
    options = {"poll_s": 0.02, "backoff_s": (0.02, 0.05), **options}
    shipper = Shipper(store, Pusher(sink.url, timeout_s=timeout_s), **options)

    async def run() -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(shipper.run(stop))
        try:
            await during(shipper)
        finally:
            stop.set()
            await asyncio.wait_for(running, PATIENCE_S)

    asyncio.run(run())
    return shipper


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def write(job: JobStore, rank: int, text: str | bytes) -> None:
    with job.paths.rank_log(rank).open("ab") as stream:
        stream.write(text if isinstance(text, bytes) else text.encode())
