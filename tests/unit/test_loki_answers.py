# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Whatever Loki answers, or does not: no line is lost, and nobody waits for it."""

# ruff: noqa: F811 - the fixtures
from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

import pytest

from tests.unit.job_store import JOB, JobStore, job_store  # noqa: F401 - a fixture
from tests.unit.loki_sink import LokiSink
from tests.unit.loki_world import shipping, sink, until, write  # noqa: F401 - a fixture
from ugro_py.loki import Pusher, PushError, Stream
from ugro_py.loki_part import Shipper


@pytest.mark.parametrize("status", [429, 500, 503, 401, 404])
def test_it_is_tried_again_until_loki_takes_it(job_store: JobStore, sink: LokiSink, status: int) -> None:
    job_store.attempt()
    write(job_store, 0, "kept\n")
    sink.answers = [(status, {})] * 4

    async def during(_: Shipper) -> None:
        await until(lambda: sink.lines(JOB) == ["kept"] and job_store.store.find_events(kinds=("loki_back",)))

    shipper = shipping(job_store.store, sink, during)
    assert shipper.dropped == 0
    (told,) = job_store.store.find_events(kinds=("loki_away",))
    assert str(status) in told.text and "\x1b" not in told.text


def test_it_waits_as_long_as_loki_asks(job_store: JobStore, sink: LokiSink) -> None:
    job_store.attempt()
    write(job_store, 0, "kept\n")
    sink.answers = [(429, {"Retry-After": "1"})]
    begun = time.monotonic()

    async def during(_: Shipper) -> None:
        await until(lambda: sink.lines(JOB) == ["kept"])

    shipping(job_store.store, sink, during)
    assert time.monotonic() - begun >= 1
    assert sink.asked == 2


def test_what_loki_refuses_for_good_does_not_hold_up_the_rest(job_store: JobStore, sink: LokiSink) -> None:
    job_store.attempt()
    write(job_store, 0, "too old\n")
    sink.answers = [(400, {})]

    async def during(shipper: Shipper) -> None:
        await until(lambda: shipper.dropped == 1)
        write(job_store, 0, "good\n")
        await until(lambda: sink.lines(JOB) == ["good"])

    shipping(job_store.store, sink, during)
    (told,) = job_store.store.find_events(kinds=("logs_refused",))
    assert "entry too far behind" in told.text


def test_too_much_at_once_is_pushed_in_parts(job_store: JobStore, sink: LokiSink) -> None:
    job_store.attempt()
    sink.largest = 60_000
    lines = [f"{number} " + "x" * 90 for number in range(5000)]
    write(job_store, 0, "\n".join(lines) + "\n")

    async def during(_: Shipper) -> None:
        await until(lambda: len(sink.lines(JOB)) == 5000)

    shipper = shipping(job_store.store, sink, during)
    assert sink.lines(JOB) == lines and shipper.dropped == 0


def test_a_loki_that_hangs_holds_up_nobody(job_store: JobStore, sink: LokiSink) -> None:
    job_store.attempt()
    write(job_store, 0, "kept\n")
    sink.hold.clear()

    async def during(_: Shipper) -> None:
        ticks = 0
        while sink.asked < 2:  # the second is tried while the first still hangs
            await asyncio.sleep(0.01)
            ticks += 1
        assert ticks
        sink.hold.set()
        await until(lambda: sink.lines(JOB) == ["kept"])

    shipping(job_store.store, sink, during, timeout_s=0.3)


def test_nobody_listens(job_store: JobStore) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(PushError) as caught:
        asyncio.run(Pusher(f"http://127.0.0.1:{port}").push([Stream((("a", "b"),), [(1, "x")])]))
    assert caught.value.status is None and not caught.value.for_good


def test_tenant_and_token_are_sent(sink: LokiSink, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cr3t\n")
    stream = Stream((("job", "x"),), [(time.time_ns(), "line")])
    asyncio.run(Pusher(sink.url + "/", "lab", token).push([stream]))
    assert (sink.headers[0]["X-Scope-OrgID"], sink.headers[0]["Authorization"]) == ("lab", "Bearer s3cr3t")
    asyncio.run(Pusher(sink.url + "/loki/api/v1/push").push([stream]))
    assert "X-Scope-OrgID" not in sink.headers[1]
