# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What the chaos tests read in the state database: with SQL, not with the code they test."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

ENDED = ("completed", "failed", "stopped")


@dataclass(frozen=True)
class Job:
    """A job as the database has it."""

    name: str
    status: str
    reason: str
    age_s: float

    @property
    def ended(self) -> bool:
        return self.status in ENDED


@dataclass(frozen=True)
class Rank:
    """A rank of an attempt, and the GPU it was given."""

    job: str
    attempt: int
    rank: int
    node: str
    gpu: str


class Reader:
    """Reads the state database of a test; nothing is there before the first job."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self, query: str, *values: object) -> list[tuple]:
        if not self.path.exists():
            return []
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=30)) as connection:
            return connection.execute(query, values).fetchall()

    def jobs(self) -> dict[str, Job]:
        query = "SELECT name, status, reason, created_at FROM jobs ORDER BY id"
        return {row[0]: Job(row[0], row[1], row[2], _age_s(row[3])) for row in self.rows(query)}

    def ranks(self) -> list[Rank]:
        query = (
            "SELECT j.name, a.number, r.rank, r.node, r.gpu_uuid FROM ranks r JOIN attempts a ON a.id = r.attempt_id"
            " JOIN jobs j ON j.id = a.job_id ORDER BY r.id"
        )
        return [Rank(*row) for row in self.rows(query)]

    def tokens(self) -> dict[str, tuple[str, int]]:
        """Return token -> (job, attempt) of every attempt there ever was."""
        query = "SELECT a.token, j.name, a.number FROM attempts a JOIN jobs j ON j.id = a.job_id"
        return {row[0]: (row[1], row[2]) for row in self.rows(query)}

    def running(self) -> list[tuple[str, int]]:
        """Return (job, attempt) of the attempts that are not over, of jobs that are not."""
        query = (
            "SELECT j.name, a.number FROM attempts a JOIN jobs j ON j.id = a.job_id WHERE a.ended_at IS NULL"
            " AND j.status IN ('starting', 'running') ORDER BY a.id"
        )
        return [(row[0], row[1]) for row in self.rows(query)]

    def controllers(self) -> dict[str, int]:
        """Return job -> pid of the process that controls it, of every active job that has one."""
        query = (
            "SELECT name, controller_pid FROM jobs WHERE controller_pid IS NOT NULL"
            f" AND status NOT IN {ENDED} ORDER BY id"
        )
        return dict(self.rows(query))

    def allocated(self) -> list[tuple[str, str]]:
        """Return (GPU, job) of everything that is allocated now."""
        query = (
            "SELECT l.gpu_uuid, j.name FROM allocations l JOIN attempts a ON a.id = l.attempt_id"
            " JOIN jobs j ON j.id = a.job_id WHERE l.released_at IS NULL"
        )
        return [(row[0], row[1]) for row in self.rows(query)]

    def allocated_twice(self) -> Iterator[str]:
        """Yield every pair of allocations of one GPU that were in force at one time."""
        query = (
            "SELECT l.gpu_uuid, l.allocated_at, COALESCE(l.released_at, '9999'), j.name, a.number FROM allocations l"
            " JOIN attempts a ON a.id = l.attempt_id JOIN jobs j ON j.id = a.job_id"
            " ORDER BY l.gpu_uuid, l.allocated_at, l.id"
        )
        rows = self.rows(query)
        for (gpu, _, until, job, attempt), (gpu2, since, _, job2, attempt2) in pairwise(rows):
            if gpu == gpu2 and since < until:
                yield f"{gpu} was given to {job2}/{attempt2} at {since} and belonged to {job}/{attempt} until {until}"

    def written(self, writer: str) -> list[int]:
        """Return the numbers of the events that a writer process has left."""
        query = "SELECT data FROM events WHERE kind = 'chaos_writer' AND text LIKE ? ORDER BY id"
        return [json.loads(row[0])["number"] for row in self.rows(query, f"{writer} %")]

    def events(self) -> dict[str, int]:
        """Return how many events of each kind there are."""
        return dict(self.rows("SELECT kind, COUNT(*) FROM events GROUP BY kind ORDER BY kind"))

    def broken(self) -> str:
        """Return what SQLite finds wrong with the file; "" is right."""
        found = self.rows("PRAGMA quick_check")
        return "" if found in ([], [("ok",)]) else str(found)


def _age_s(moment: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(moment).replace(tzinfo=UTC)).total_seconds()
