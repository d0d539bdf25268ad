# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What the queue would say of a job that is not in it is what it says when it is."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

from typing import Any

import pytest

from tests.unit.queue_store import CLUSTER, known, now_decided, start, submit  # noqa: F401 - a fixture
from ugro_py.errors import NotFoundError, RightsError
from ugro_py.queue.forecast import Forecast, forecast
from ugro_py.request.job import JobRequest
from ugro_py.state import Store


def said(store: Store, *, user: str = "ob", group: str | None = "lab", **asked: Any) -> Forecast:
    """The forecast for a job, which the queue itself has to say then."""
    found = forecast(store, CLUSTER, JobRequest("new", **asked), user, group)
    assert "new" not in [job.name for job in store.jobs()]
    store.create_job("new", user, JobRequest("new", **asked).as_dict(), group=group)
    decision = now_decided(store)
    assert decision.reasons.get("new", "") == found.waits or found.fails
    assert [fail.reason for fail in decision.fail if fail.job == "new"] == [found.fails] * bool(found.fails)
    if found.gpus is not None:
        assert [len(begun.placements) for begun in decision.start if begun.job == "new"] == [found.gpus]
    store.set_job("new", "stopped")
    with store.database.write() as connection:
        connection.exec_driver_sql("UPDATE jobs SET name = 'old_' || id WHERE name = 'new'")
    return found


def test_what_nothing_is_in_the_way_of_starts(known: Store) -> None:
    assert said(known) == said(known, gpus=2, nodes=2) == Forecast()


def test_who_has_to_wait_is_told_for_what(known: Store) -> None:
    assert said(known, hold=True).waits == "held by ob"
    submit(known, "first", 3)
    assert said(known, after=("first",)).waits == "after job first"
    start(known, now_decided(known))
    assert "is used by job first" in said(known, gpus=2).waits
    submit(known, "line", 4)
    assert said(known, gpus=1).waits.startswith("behind job line")
    assert said(known, gpus=1, priority=60) == Forecast()  # before it, on what is free
    known.set_job("first", "failed", "so that one may see")
    assert "first, which it was to follow, has failed" in said(known, after=("first",)).fails


def test_quotas_count(known: Store) -> None:
    known.set_account("user", "ob", max_gpus=1)
    assert said(known, gpus=2).waits == "quota: ob may use 1 GPU at once, the job asks for 2"
    assert said(known) == Forecast(gpus=1)  # it takes what it may
    assert said(known, user="eva") == Forecast()
    known.set_account("group", "lab", gpu_hours_week=0)
    assert said(known, user="eva").waits.startswith("quota: group lab used 0.0 of 0 GPU hours")
    known.set_account("group", "lab", gpu_hours_week=None)
    known.set_account("user", "ob", max_queued=1)
    submit(known, "only")
    with pytest.raises(RightsError, match="ob has 1 of 1 jobs"):
        said(known)
    with pytest.raises(NotFoundError, match="nowhere"):
        said(known, user="eva", after=("nowhere",))


def test_nodes_that_the_store_has_not_seen_are_not_judged(store: Store) -> None:
    assert forecast(store, CLUSTER, JobRequest("new"), "ob", None) == Forecast()
