# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A GPU falls off the bus under a job: told of within seconds, explained, kept from jobs; a retry gets another one.

That may be the other one of its host: the rest of a node is as good as before until the health sweep drains it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import nvml
from tests.integration.agents import running_agent
from tests.integration.support import PLAY, Ugro, edited, wait_until
from tests.lab import Lab
from tests.nvml import hosts as gpus
from ugro_py.state import RankRow

pytestmark = [pytest.mark.lab, pytest.mark.slow]

GPU_HOSTS = ("gpu1", "gpu2")
# Three readings of one second each; a machine that is busy with other things gets more.
LIMIT_S = 12.0


@pytest.fixture
def gpu_ugro(lab3: Lab, make_ugro: Callable[..., Ugro], tmp_path: Path) -> Iterator[Ugro]:
    """`ugro` on the two hosts that have two GPUs each."""
    if reason := nvml.skip_reason():
        pytest.skip(reason)
    for name in GPU_HOSTS:
        gpus.give(lab3.host(name), tmp_path / "nvml")
    try:
        yield make_ugro(
            edited(lab3, "gpus.yml", lambda hosts: [hosts[name].update(ugro_python=gpus.PYTHON) for name in GPU_HOSTS]),
            lab3,
        )
    finally:
        for name in GPU_HOSTS:
            gpus.take_away(lab3.host(name))


def lose_gpu_of(ugro: Ugro, lab: Lab, job: str) -> tuple[RankRow, float]:
    """Wait until the job has done steps, take its GPU away, and return its rank and when that was."""
    ugro.wait_for_log(job, "step 20 ", [0])
    with ugro.store() as store:
        rank = store.ranks(job)[0]
    host = lab.host(rank.node)
    index = int(rank.gpu_uuid[-1])
    assert rank.gpu_uuid == gpus.uuid(host, index)
    at = time.time()
    gpus.lose(host, index)
    return rank, at


def test_a_lost_gpu_ends_the_attempt_and_the_next_one_gets_another(gpu_ugro: Ugro, lab3: Lab) -> None:
    ugro = gpu_ugro
    with running_agent(ugro):
        steps = ("--script", PLAY, "--gpus", 1, "--", "steps", 2000, 0.05)
        ugro.run("launch", "-d", "--name", "falls", "--retry", 1, *steps)
        rank, at = lose_gpu_of(ugro, lab3, "falls")
        wait_until(lambda: _gpu_of(ugro, "falls") != rank.gpu_uuid, "attempt 2, on another GPU")
        with ugro.store() as store:
            (told,) = [event for event in store.events("falls", limit=100) if event.kind == "gpu_lost"]
            assert rank.gpu_uuid in store.unusable_gpus()
            assert store.attempt("falls").reason == "" and store.attempt("falls", 1).status == "failed"
        assert (told.node, told.rank, told.severity) == (rank.node, 0, "error")
        print(f"GPU lost: told of after {told.at.timestamp() - at:.2f} s")
        assert told.at.timestamp() - at < LIMIT_S
        samples = (ugro.folder("falls") / "attempts" / "1" / f"{rank.node}.events.jsonl").read_text().splitlines()
        sample = next(event for event in map(json.loads, samples) if event["kind"] == "sample")
        assert [gpu["uuid"] for gpu in sample["gpus"]] == [rank.gpu_uuid]
        first = ugro.json("explain", "falls", "--attempt", 1, "--json")
        assert (first["cause"], first["rank"], first["node"]) == ("gpu_lost", 0, rank.node)
        assert rank.gpu_uuid in first["title"]

        # Nobody gets that GPU; the other one of its host is free until the health sweep drains the node.
        wanted = f"{rank.node}:{rank.gpu_uuid[-1]}"
        refused = ugro.run(
            "launch", "--no-wait", "--name", "wants", "--include", wanted, "--script", PLAY, "--", "say", code=6
        )
        words = (f"{rank.node} has no GPU {rank.gpu_uuid[-1]}", "is gone", "drained")  # by the moment of asking
        assert any(word in refused.stderr for word in words), refused.stderr

        # No retry is left: the job ends with that cause.
        second, _at = lose_gpu_of(ugro, lab3, "falls")
        assert second.gpu_uuid != rank.gpu_uuid
        job = ugro.wait_for("falls", "failed")
        assert job.reason == f"GPU {second.gpu_uuid} of rank 0 on {second.node} was lost"
        assert ugro.json("explain", "falls", "--json")["cause"] == "gpu_lost"
        assert ugro.busy() == {}
        for attempt in (1, 2):
            assert ugro.leftovers(ugro.token("falls", attempt)) == {}
        wait_until(lambda: _drained(ugro) >= {rank.node, second.node}, "the nodes are drained", 60)


def _gpu_of(ugro: Ugro, job: str) -> str:
    with ugro.store() as store:
        return store.ranks(job)[0].gpu_uuid


def _drained(ugro: Ugro) -> set[str]:
    with ugro.store() as store:
        return {event.node or "" for event in store.events(limit=500) if event.kind == "node_drain"}
