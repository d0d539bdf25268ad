# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Logs pushed to Loki: the format, each line once and in order, and going on after a kill where it was."""

# ruff: noqa: F811 - the fixtures
from __future__ import annotations

import asyncio
import json

import pytest

from tests.unit.job_store import JOB, JobStore, job_store  # noqa: F401 - a fixture
from tests.unit.loki_sink import LokiSink
from tests.unit.loki_world import shipping, sink, until, write  # noqa: F401 - a fixture
from ugro_py.agent.wiring import part_makers
from ugro_py.cluster import Settings
from ugro_py.loki import part
from ugro_py.loki.part import Shipper, shipper_of
from ugro_py.loki.push import Pusher
from ugro_py.loki.tail import PIECE, READ_BYTES, JobLogs


def test_lines_of_every_rank_come_with_their_labels_in_order(job_store: JobStore, sink: LokiSink) -> None:
    job_store.attempt()
    for rank in range(3):
        write(job_store, rank, "".join(f"rank {rank} line {number}\n" for number in range(1000)))

    async def during(_: Shipper) -> None:
        await until(lambda: len(sink.lines(JOB, 2)) == 1000)
        write(job_store, 2, "and one more\nnot whole")
        await until(lambda: len(sink.lines(JOB, 2)) == 1001)
        write(job_store, 2, " yet\n")
        await until(lambda: len(sink.lines(JOB, 2)) == 1002)

    shipping(job_store.store, sink, during)
    assert sink.lines(JOB, 0) == [f"rank 0 line {number}" for number in range(1000)]
    assert sink.lines(JOB, 2)[-2:] == ["and one more", "not whole yet"]
    expected = {("attempt", "1"), ("job", JOB), ("node", "gpu1"), ("rank", "1")}
    assert expected in [set(labels) for labels in sink.kept]


def test_what_jobs_print_is_only_text(job_store: JobStore, sink: LokiSink) -> None:
    job_store.attempt()
    huge = "ü" * 5_000_000  # 10 MB
    hostile = ['</script><b>"x"', "\x1b]0;title\x07\x1b[31mred", "nul \0 and tab\t", "", "{{ x }}", '{"streams": []}']
    raw = "\n".join(hostile).encode() + b"\nbroken \xff\xfe utf-8\r\n" + huge.encode() + b"\nlast\n"
    write(job_store, 0, raw)

    async def during(_: Shipper) -> None:
        await until(lambda: sink.lines(JOB)[-1:] == ["last"])

    shipping(job_store.store, sink, during)
    found = sink.lines(JOB)
    assert found[:7] == [*hostile, "broken \ufffd\ufffd utf-8"]
    assert "".join(found[7:-1]) == huge
    assert max(map(len, found)) <= PIECE
    assert max(sink.pushes) < 2 * part.BATCH_BYTES


def test_a_line_without_an_end_comes_when_the_job_has_ended(job_store: JobStore, sink: LokiSink) -> None:
    job_store.attempt()
    write(job_store, 0, "bar 10%\rbar 20%")

    async def during(_: Shipper) -> None:
        write(job_store, 1, "x\n")
        await until(lambda: sink.lines(JOB, 1))
        assert sink.lines(JOB) == []
        job_store.end()
        await until(lambda: sink.lines(JOB) == ["bar 10%\rbar 20%"])

    shipping(job_store.store, sink, during)


def test_each_attempt_has_a_stream_of_its_own(job_store: JobStore, sink: LokiSink) -> None:
    first = job_store.attempt()
    write(job_store, 0, "of the first\n")

    async def during(_: Shipper) -> None:
        await until(lambda: sink.lines(JOB) == ["of the first"])
        write(job_store, 0, "its end\ncut")
        job_store.store.set_attempt(JOB, first, status="failed")
        job_store.paths.attempt(first).mkdir(parents=True, exist_ok=True)
        job_store.paths.keep_logs(first)
        second = job_store.attempt()
        write(job_store, 0, "of the second\n")
        await until(lambda: sink.lines(JOB, attempt=second) == ["of the second"])
        await until(lambda: sink.lines(JOB) == ["of the first", "its end", "cut"])

    shipping(job_store.store, sink, during)


def test_a_restart_goes_on_where_it_was(job_store: JobStore, sink: LokiSink) -> None:
    job_store.attempt()
    expected = []
    for turn in range(5):
        lines = [f"turn {turn} line {number}" for number in range(500)]
        expected += lines
        count = len(expected)
        write(job_store, 0, "\n".join(lines) + "\n")

        async def during(_: Shipper, count: int = count) -> None:
            await until(lambda: len(sink.lines(JOB)) == count)

        shipping(job_store.store, sink, during)
    assert sink.lines(JOB) == expected


def test_killed_between_the_push_and_its_note_nothing_is_there_twice(job_store: JobStore, sink: LokiSink) -> None:
    job_store.attempt()
    write(job_store, 0, "".join(f"line {number}\n" for number in range(100)))

    async def killed() -> None:
        shipper = Shipper(job_store.store, Pusher(sink.url))
        shipper._look()
        batch = shipper._read()
        await Pusher(sink.url).push([stream for _, stream in batch])

    asyncio.run(killed())
    assert len(sink.lines(JOB)) == 100
    write(job_store, 0, "the last\n")

    async def during(_: Shipper) -> None:
        await until(lambda: sink.lines(JOB)[-1:] == ["the last"])

    shipping(job_store.store, sink, during)
    assert sink.lines(JOB) == [*(f"line {number}" for number in range(100)), "the last"]
    assert sink.asked == 3


@pytest.mark.parametrize("kept", ["", "[]", "{", '{"1/0": [5]}', '{"1/0": ["a", 2]}', '{"1/0": [9, 0, 3, 1]}'])
def test_a_damaged_note_of_how_far_it_was(job_store: JobStore, sink: LokiSink, kept: str) -> None:
    job_store.attempt()
    write(job_store, 0, "0123456\nrest\n")
    job_store.paths.loki.write_text(kept)

    async def during(_: Shipper) -> None:
        await until(lambda: sink.lines(JOB)[-1:] == ["rest"] or sink.lines(JOB)[-1:] == ["est"])

    shipping(job_store.store, sink, during)


def test_characters_are_not_cut_apart(job_store: JobStore) -> None:
    job_store.attempt()
    text = "a" + "é" * READ_BYTES
    write(job_store, 0, text)
    logs = JobLogs(JOB)
    logs.add(1, 0, "gpu-master")
    tail = logs.tails[1, 0]
    found = ""
    while (stream := tail.read(1, last=True, newest=True)) is not None:
        found += "".join(line for _, line in stream.values)
        tail.taken()
    assert found == text


def test_jobs_that_ended_long_ago_are_let_be(job_store: JobStore, sink: LokiSink) -> None:
    job_store.attempt()
    write(job_store, 0, "x\n")
    job_store.end()
    shipper = Shipper(job_store.store, Pusher(sink.url))
    shipper._look()
    assert list(shipper._jobs) == [JOB]
    shipper._jobs[JOB].logs.tails.clear()
    shipper._jobs[JOB].quiet_since -= 3600
    assert shipper._read() == []
    shipper._look()
    assert not shipper._jobs


def test_without_a_url_nothing_is_pushed(job_store: JobStore) -> None:
    assert shipper_of(job_store.store, Settings()) is None
    assert isinstance(shipper_of(job_store.store, Settings(loki_url="http://x:1")), Shipper)


def test_the_agent_has_it_as_a_part(job_store: JobStore, sink: LokiSink) -> None:
    job_store.attempt()
    write(job_store, 0, "by the agent\n")
    noted: list[tuple[str, float]] = []

    class Clock:
        def add(self, name: str, seconds: float) -> None:
            noted.append((name, seconds))

    class Agent:
        store, clock = job_store.store, Clock()
        cluster = type("Cluster", (), {"settings": Settings(loki_url=sink.url)})

    make, of_the_inventory = part_makers(Agent())["loki"]  # type: ignore[arg-type]
    assert of_the_inventory

    async def run() -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(make()(stop))  # type: ignore[arg-type]
        await until(lambda: noted)
        stop.set()
        await running

    asyncio.run(run())
    assert sink.lines(JOB) == ["by the agent"] and noted[0][0] == "loki"
    assert json.loads(job_store.paths.loki.read_text())["1/0"][0] == 13
