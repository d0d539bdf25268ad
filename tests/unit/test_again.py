# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A job whose time limit is used up is resumed with more time, or not at all."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from tests.unit.job_store import JOB, JobStore, job_store  # noqa: F401 - a fixture
from ugro_py import again
from ugro_py.errors import UsageError
from ugro_py.request.job import JobRequest
from ugro_py.state.models import attempts, jobs


@pytest.fixture(autouse=True)
def files_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(again.spool, "exists", lambda job: True)


def ran(store: JobStore, seconds: float, limit_s: float | None) -> None:
    """Have the job run for so long, and end by its limit."""
    store.attempt()
    request = JobRequest(JOB, time_limit_s=limit_s).as_dict()
    now = datetime.now(UTC)
    with store.store.database.write() as connection:
        connection.execute(update(jobs).values(time_limit_s=limit_s, request=request))
        connection.execute(update(attempts).values(started_at=now - timedelta(seconds=seconds), ended_at=now))
    store.end("failed", "its time limit was reached", 124)


def test_a_limit_that_is_used_up_is_refused_with_what_to_type(job_store: JobStore) -> None:
    ran(job_store, 61, 60)
    with pytest.raises(UsageError, match=r"limit of 1m00s is used up; .*ugro resume first_test --time-limit"):
        again.reopen(job_store.store, JOB, None, {})
    row = job_store.store.job(JOB)
    assert (row.status, row.exit_code) == ("failed", 124)


def test_a_new_limit_counts_from_here_on(job_store: JobStore) -> None:
    ran(job_store, 61, 60)
    row = again.reopen(job_store.store, JOB, None, {}, 120.0)
    assert row.status == "pending"
    assert row.time_limit_s is not None and 181 <= row.time_limit_s <= 183
    assert JobRequest.from_dict(row.request).time_limit_s == row.time_limit_s
    assert row.time_limit_s - job_store.store.run_seconds(JOB) >= 120


@pytest.mark.parametrize(("seconds", "limit_s"), [(30, 60.0), (30, None)])
def test_what_is_left_of_a_limit_is_left(job_store: JobStore, seconds: float, limit_s: float | None) -> None:
    ran(job_store, seconds, limit_s)
    assert again.reopen(job_store.store, JOB, None, {}).time_limit_s == limit_s
