# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A job that ran, ended and waits to run again: no time passes for it while it waits."""

from __future__ import annotations

from tests.unit.experiment_store import Experiments, own_store  # noqa: F401 - a fixture
from ugro_py import experiments, results
from ugro_py.state.views import job_list
from ugro_py.status import status_of


def test_a_resumed_job_that_waits_does_not_run(own_store: Experiments) -> None:  # noqa: F811
    own_store.run("again", status="failed")
    store = own_store.store

    def told() -> list[float | None]:
        (row,) = experiments.ls(store, wait_s=None).rows
        listed = [job["duration_s"] for job in job_list(store)]
        return [*listed, status_of(store, "again")["elapsed_seconds"], row.duration_s,
                results.summary("again", store).duration_s]  # fmt: skip

    assert None not in told()
    store.set_job("again", "pending", "resumed")
    assert store.job("again").started_at is not None
    assert told() == [None] * 4
    store.set_job("again", "running")
    assert None not in told()
