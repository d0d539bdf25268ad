# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Copies of what a node writes, when two controllers make them: one that lost the job, and the one that has it."""

from __future__ import annotations

import base64
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from ugro_py.mirror import Mirror
from ugro_py.paths import EVENTS, JobPaths

LINES = [json.dumps({"t": number, "kind": "metrics", "rank": 0, "step": number}) for number in range(400)]
WHOLE = "".join(line + "\n" for line in LINES).encode()

# Writes the same file in pieces of its own choice, from where the copy ends, as often as it takes.
WRITER = """
import base64, random, sys
from ugro_py.mirror import Mirror
from ugro_py.paths import EVENTS, JobPaths
whole, choose = sys.stdin.buffer.read(), random.Random(int(sys.argv[1]))
mirror, seen = Mirror(JobPaths("job"), 1, "gpu1"), 0
while (here := mirror.offset(EVENTS)) < len(whole):
    begin = max(0, here - choose.randrange(200))
    piece = whole[begin : here + choose.randrange(1, 200)]
    seen += len(mirror.write(EVENTS, begin, base64.b64encode(piece).decode()))
seen += len(list(mirror.replay()))
print(seen)
"""


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobPaths:
    monkeypatch.setenv("UGRO_DATA", str(tmp_path))
    return JobPaths("job")


def put(mirror: Mirror, name: str, offset: int, piece: bytes) -> list[int]:
    return [event["step"] for event in mirror.write(name, offset, base64.b64encode(piece).decode())]


def test_two_processes_at_once_write_each_byte_once_and_miss_no_event(paths: JobPaths) -> None:
    mirror = Mirror(paths, 1, "gpu1")
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        for seed in range(2)
    ]  # fmt: skip
    for writer in writers:
        assert writer.stdin
        writer.stdin.write(WHOLE)
        writer.stdin.close()
    for writer in writers:
        assert writer.stdout and int(writer.stdout.read()) == len(LINES)
        assert writer.wait(60) == 0
    assert paths.node_events(1, "gpu1").read_bytes() == WHOLE
    assert [event["step"] for event in mirror.replay()] == list(range(len(LINES)))


def test_what_another_wrote_is_told_with_the_next_piece(paths: JobPaths) -> None:
    old, new = Mirror(paths, 1, "gpu1"), Mirror(paths, 1, "gpu1")
    first, second, third = (line.encode() + b"\n" for line in LINES[:3])
    assert put(old, EVENTS, 0, first) == [0]
    assert [event["step"] for event in new.replay()] == [0]
    assert put(old, EVENTS, len(first), second[:20]) == []
    assert put(new, EVENTS, len(first), second + third) == [1, 2]
    assert put(old, EVENTS, len(first) + 20, second[20:]) == [1, 2]
    assert put(new, EVENTS, len(first), second) == []
    assert paths.node_events(1, "gpu1").read_bytes() == first + second + third


def test_pieces_that_overlap_or_leave_a_gap(paths: JobPaths) -> None:
    mirror = Mirror(paths, 1, "gpu1", (0,), 100)
    data, choose, name = bytes(random.Random(1).randbytes(150)), random.Random(2), "logs/rank_0.log"
    put(mirror, name, 50, data[50:60])
    assert mirror.offset(name) == 0
    while mirror.offset(name) < 100:
        begin = choose.randrange(mirror.offset(name) + 1)
        put(mirror, name, begin, data[begin : begin + choose.randrange(30)])
    assert paths.rank_log(0).read_bytes() == data[:100]
