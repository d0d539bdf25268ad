# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Comparing runs with a job that never started: what is not known of it is no difference, and it is best in nothing."""

from __future__ import annotations

from tests.unit.experiment_store import Experiments, ran  # noqa: F401 - a fixture
from ugro_py import experiments


def test_what_is_not_known_of_a_job_that_never_started_is_no_difference(ran: Experiments) -> None:  # noqa: F811
    code = {"digest": "d1", "folder": "/home/ob/a", "git": {"commit": "c0ffee"}}
    run = {"seed": 3, "world_size": 2, "code": code, "nodes": [{"name": "gpu1", "packages": {"python": "3.11"}}]}
    request = {"model": "tiny-llama", "epochs": 3}
    ran.run("one", request=request, capsule={**run, "request": request})
    ran.run("two", request=request, capsule={**run, "request": request, "code": {**code, "folder": "/home/ob/b"}})
    ran.run("seven", request=request, capsule={**run, "request": request, "seed": 7})
    ran.store.create_job("held", "ob", {"model": "tiny-llama", "epochs": 5})

    def different(*jobs: str) -> dict[str, tuple[object, ...]]:
        return {row.key: row.values for row in experiments.compare(ran.store, jobs).differences}

    assert different("one", "held") == {"epochs": (3, 5)}, "what it asked for is known"
    assert different("held", "one", "two") == {"epochs": (5, 3, 3)}
    assert different("one", "held", "seven") == {"epochs": (3, 5, 3), "seed": (3, None, 7)}
    both = experiments.compare(ran.store, ["held", "one"], everything=True)
    assert next(row.to_json() for row in both.differences if row.key == "seed")["differs"] is False
    assert both.without_capsule == ("held",)


def test_a_job_that_never_ran_used_the_fewest_gpu_hours_of_none(ran: Experiments) -> None:  # noqa: F811
    for job in ("held", "waits"):
        ran.store.create_job(job, "ob", {"model": "tiny-llama"})
    ran.run("broken", losses=(), status="failed")
    figures = {figure.name: figure for figure in experiments.compare(ran.store, ["held", "broken"]).figures}
    assert figures["GPU hours"].values[0] is None and figures["GPU hours"].best is None
    assert figures["attempts"].values == (None, 1) and figures["attempts"].best is None
    nobody = experiments.compare(ran.store, ["held", "waits"]).figures
    assert not [figure.name for figure in nobody if figure.best is not None]
