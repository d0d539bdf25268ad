# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""How often a job whose controller ends in mid-launch goes back to the queue."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import asyncio

import pytest

from tests.unit.here import JOB, Here, here  # noqa: F401 - a fixture
from ugro_py.scheduler import Request, place
from ugro_py.takeover import _INTERRUPTED_STARTS, _ROLLED_BACK, _start_anew


@pytest.mark.parametrize(("reasons", "status"), [
    ([_ROLLED_BACK] * (_INTERRUPTED_STARTS - 1), "pending"),
    ([_ROLLED_BACK] * _INTERRUPTED_STARTS, "failed"),
    ([_ROLLED_BACK] * _INTERRUPTED_STARTS + ["a rank failed", _ROLLED_BACK], "pending"),  # it ran in between
])  # fmt: skip
def test_only_those_in_a_row_count(here: Here, reasons: list[str], status: str) -> None:
    asyncio.run(here.submit("print('never')"))
    store = here.store
    assert store.claim(JOB, here.me)
    placements = place(Request(), ("a", "b"), store.gpus(), {})
    for number, reason in enumerate(reasons, 1):
        assert store.start_attempt(JOB, placements, master_addr="x", master_port=1, token=str(number)) == number
        store.set_attempt(JOB, number, status="failed", reason=reason)
    outcome = _start_anew(store, store.job(JOB), here.me, "its controller ended")
    assert (outcome.status, store.job(JOB).status) == (status, status)
    assert store.busy() == {}
