# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Whatever Loki answers, or does not: no line is lost, and nobody waits for it."""

# ruff: noqa: F811 - the fixtures
from __future__ import annotations

import asyncio
import base64
import json
import ssl
import subprocess
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.unit.job_store import JOB, JobStore, job_store  # noqa: F401 - a fixture
from tests.unit.loki_sink import LokiSink, loki_sink
from tests.unit.loki_world import shipping, sink, until, write  # noqa: F401 - a fixture
from ugro_py.loki.part import Shipper
from ugro_py.loki.push import Pusher, PushError, Stream
from ugro_py.loki.tail import AHEAD_NS, JobLogs

DAY_NS = 86400 * 10**9


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


@pytest.mark.parametrize(("limit", "size"), [("largest", 60_000), ("burst", 100_000)])
def test_too_much_at_once_is_pushed_in_parts(job_store: JobStore, sink: LokiSink, limit: str, size: int) -> None:
    """A push may be too large, or more than Loki ever takes of a tenant at once."""
    job_store.attempt()
    setattr(sink, limit, size)
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


def test_away_for_long_nothing_is_lost_and_nothing_kept_but_a_batch(job_store: JobStore, tmp_path: Path) -> None:
    job_store.attempt()
    lines = {rank: [f"{rank} {number} " + "y" * 200 for number in range(8000)] for rank in (0, 1)}
    with loki_sink() as first:
        port = first.port

        async def before(_: Shipper) -> None:
            write(job_store, 0, "the first\n")
            await until(lambda: first.lines(JOB) == ["the first"])

        shipping(job_store.store, first, before)

    async def away(shipper: Shipper) -> None:
        for rank, text in lines.items():
            write(job_store, rank, "\n".join(text) + "\n")
        await until(lambda: job_store.store.find_events(kinds=("loki_away",)))

    shipping(job_store.store, first, away)
    with loki_sink(port) as second:

        async def back(_: Shipper) -> None:
            await until(lambda: all(len(second.lines(JOB, rank)) == 8000 for rank in lines))

        shipper = shipping(job_store.store, second, back)
        assert all(second.lines(JOB, rank) == text for rank, text in lines.items())
        assert shipper.dropped == 0 and second.faults == []


def test_what_one_rank_is_refused_for_costs_another_nothing(job_store: JobStore, sink: LokiSink) -> None:
    """The lines of rank 0 were on their way eight days ago: Loki takes no line that is older than seven."""
    job_store.attempt()
    for rank in (0, 1):
        write(job_store, rank, f"of rank {rank}\n")
    job_store.paths.loki.write_text(json.dumps({"1/0": [0, 0, 10, time.time_ns() - 8 * DAY_NS]}))

    async def during(shipper: Shipper) -> None:
        await until(lambda: shipper.dropped == 1)
        write(job_store, 0, "new\n")
        await until(lambda: sink.lines(JOB) == ["new"])

    shipping(job_store.store, sink, during)
    (told,) = job_store.store.find_events(kinds=("logs_refused",))
    assert "too old" in told.text and "1 lines of rank 0" in told.text and told.job == JOB
    assert sink.lines(JOB, 1) == ["of rank 1"]
    assert all("too old" in fault for fault in sink.faults)
    sink.faults.clear()


def test_too_fast_is_not_lost_in_what_another_is_refused_for(job_store: JobStore, sink: LokiSink) -> None:
    """Loki's one answer to a push of two is 400; asked for alone, rank 0 was only too fast."""
    job_store.attempt()
    for rank in (0, 1):
        write(job_store, rank, f"of rank {rank}\n")
    sink.answers = [(400, {}), (429, {})]

    async def during(_: Shipper) -> None:
        await until(lambda: sink.lines(JOB) == ["of rank 0"] and sink.lines(JOB, 1) == ["of rank 1"])

    assert shipping(job_store.store, sink, during).dropped == 0


def test_a_clock_that_was_set_back(job_store: JobStore) -> None:
    job_store.attempt()
    write(job_store, 0, "line\n")
    now = time.time_ns()
    for last, begin in ((now + AHEAD_NS // 2, now + AHEAD_NS // 2 + 1), (now + 2 * AHEAD_NS, now)):
        job_store.paths.loki.write_text(json.dumps({"1/0": [0, last]}))
        logs = JobLogs(JOB)
        logs.add(1, 0, "gpu-master")
        stream = logs.tails[1, 0].read(now, last=False, newest=True)
        assert stream is not None and stream.values == [(begin, "line")]


@pytest.mark.parametrize("date", [True, False])
def test_retry_after_is_a_number_or_a_date(sink: LokiSink, date: bool) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    sink.answers = [(429, {"Retry-After": later if date else "90"}), (503, {"Retry-After": "soon"})]
    found = []
    for _ in range(2):
        with pytest.raises(PushError) as caught:
            asyncio.run(Pusher(sink.url).push([Stream((("a", "b"),), [(1, "x")])]))
        found.append(caught.value.wait_s)
    assert found[0] is not None and 0 < found[0] <= 90 and found[1] is None


def test_a_password_that_is_mended(job_store: JobStore, sink: LokiSink, tmp_path: Path) -> None:
    """Refused again and again, and not one line is given up; the file is read at each push."""
    password = tmp_path / "password"
    password.write_text("wrong\n")
    pair = base64.b64encode(b"4711:right horse").decode()
    sink.needs = {"X-Scope-OrgID": "lab", "Authorization": f"Basic {pair}"}
    job_store.attempt()
    write(job_store, 0, "kept\n")

    async def run() -> None:
        stop = asyncio.Event()
        pusher = Pusher(sink.url, "lab", password, user="4711")
        running = asyncio.create_task(Shipper(job_store.store, pusher, poll_s=0.02, backoff_s=(0.02,)).run(stop))
        await until(lambda: job_store.store.find_events(kinds=("loki_away",)))
        password.write_text("right horse\n")
        await until(lambda: sink.lines(JOB) == ["kept"])
        stop.set()
        await running

    asyncio.run(run())
    assert {fault[:3] for fault in sink.faults} == {"401"}
    sink.faults.clear()
    (told,) = job_store.store.find_events(kinds=("loki_away",))
    assert "401" in told.text and "wrong" not in told.text


def test_over_tls_with_a_certificate_of_ones_own(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
            "2", "-subj", "/CN=loki", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate,
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    stream = Stream((("job", JOB), ("rank", "0"), ("attempt", "1")), [(time.time_ns(), "line")])
    with loki_sink(tls=context) as sink:
        with pytest.raises(PushError, match="certificate verify failed"):
            asyncio.run(Pusher(sink.url).push([stream]))
        with pytest.raises(PushError, match="No such file"):
            asyncio.run(Pusher(sink.url, ca_file=tmp_path / "nothing").push([stream]))
        asyncio.run(Pusher(sink.url, ca_file=certificate).push([stream]))
        assert sink.lines(JOB) == ["line"]


@pytest.mark.parametrize(
    ("labels", "at_s", "line", "said"),
    [
        ({}, 0, "x", "at least one label pair"),
        ({f"l{number}": "x" for number in range(16)}, 0, "x", "16 label names; limit 15"),
        ({"of-what": "x"}, 0, "x", "parsing labels"),
        ({"job": "x" * 2049}, 0, "x", "value too long"),
        ({"job": "x"}, 700, "x", "too new"),
        ({"job": "x"}, -8 * 86400, "x", "too old"),
        ({"job": "x"}, 0, "x" * (256 * 1024 + 1), "Max entry size"),
    ],
)
def test_the_sink_refuses_what_loki_does(labels: dict[str, str], at_s: int, line: str, said: str) -> None:
    """And keeps what else is in the push, as Loki does."""
    now = time.time_ns()
    good = Stream((("job", JOB), ("rank", "0"), ("attempt", "1")), [(now, "good")])
    with loki_sink() as sink:
        with pytest.raises(PushError) as caught:
            asyncio.run(Pusher(sink.url).push([Stream(tuple(labels.items()), [(now + at_s * 10**9, line)]), good]))
        assert caught.value.status == 400 and caught.value.for_good and said in str(caught.value)
        assert sink.lines(JOB) == ["good"] and len(sink.kept.get(tuple(sorted(labels.items())), [])) == 0


def test_nobody_listens(job_store: JobStore) -> None:
    port = free_port()
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
