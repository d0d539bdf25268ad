# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The newest metrics of each rank, from the end of a file of any size, with any number of ranks."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import json

import pytest

from tests.unit.job_folder import JOB, paths  # noqa: F401 - a fixture
from ugro_py import status
from ugro_py.paths import JobPaths


def line(rank: int, step: int) -> bytes:
    told = {"timestamp": "2026-01-20T12:00:00Z", "job_id": JOB, "attempt": 1, "rank": rank, "step": step}
    return json.dumps(told | {"training_loss": 1.5, "throughput_tokens_sec": 1234.5678, "pad": "x" * 150}).encode()


def test_a_thousand_ranks_are_all_seen(paths: JobPaths) -> None:
    ranks = range(1000)
    paths.metrics.write_bytes(b"".join(line(rank, step) + b"\n" for step in (1, 2, 3) for rank in ranks))
    found = status.newest_metrics(paths, ranks)
    assert {rank: told["step"] for rank, told in found.items()} == dict.fromkeys(ranks, 3)
    assert set(status.newest_metrics(paths, range(2000))) == set(ranks)


def test_a_rank_that_fell_behind_is_still_seen_and_no_other_one_is(paths: JobPaths) -> None:
    behind = b"".join(line(1, step) + b"\n" for step in (1, 2))
    paths.metrics.write_bytes(behind + b"".join(line(0, step) + b"\n" for step in range(300)))
    assert {rank: told["step"] for rank, told in status.newest_metrics(paths, [0, 1, 2]).items()} == {0: 299, 1: 2}
    assert status.newest_metrics(paths, []) == {}


@pytest.mark.parametrize(
    "hostile",
    [b"[3]", b"null", b'{"rank": [1]}', b'{"rank": 0, "st', b"\xff\xfe", b"", b"[" * 200_000, b'"' + b"z" * 1_000_000],
    ids=lambda value: ascii(value[:10]),
)
def test_damaged_lines_hide_nothing(paths: JobPaths, hostile: bytes) -> None:
    few = range(1500)  # so many that some MB are looked through
    good = b"\n".join(line(rank, 1) for rank in few)
    paths.metrics.write_bytes(hostile + b"\n" + good + b"\r\n" + hostile + b"\n" + line(3, 2) + b"\n" + hostile)
    found = status.newest_metrics(paths, few)
    assert {rank: told["step"] for rank, told in found.items()} == {**dict.fromkeys(few, 1), 3: 2}


def test_only_the_end_of_the_file_is_looked_through(paths: JobPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "_TAIL_BYTES", 1 << 10)
    monkeypatch.setattr(status, "_LONGEST_TAIL", 1 << 13)
    paths.metrics.write_bytes(line(1, 1) + b"\n" + b"".join(line(0, step) + b"\n" for step in range(100)))
    assert list(status.newest_metrics(paths, [0, 1, 2, 3])) == [0]
    assert status.newest_metrics(JobPaths("job_2"), [0]) == {}
