# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The central store keeps the newest checkpoints of a job, and those that somebody needs."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import asyncio
import json
from pathlib import Path

from tests.unit.job_store import JOB, NODES, JobStore, job_store  # noqa: F401 - a fixture
from ugro_py import checkpoints
from ugro_py.finish import finish_attempt
from ugro_py.gang import Outcome
from ugro_py.plan import Gang
from ugro_py.scheduler import Request, place


def _save(folder: Path, name: str, step: int, *, manifest: bool = True) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("weights")
    if manifest:
        path.with_name(name + ".json").write_text(json.dumps({"complete": True, "step": step, "size": 7}))
    return path


def test_the_oldest_go_and_what_is_needed_stays(job_store: JobStore) -> None:
    store, top = job_store.store, job_store.paths.checkpoints
    number = job_store.attempt()
    job_store.event(number, NODES[1], 1.0, "rank_started", rank=1, pid=5)  # its folder inside is a node's
    for step in range(1, 11):
        _save(top, f"step_{step:02d}.pt", step)
        _save(top / NODES[1], f"step_{step:02d}.pt", step)
    _save(top, "best.pt", 1)
    _save(top, "final.pt", 10)
    _save(top, "step_00.pt", 0, manifest=False)
    half = _save(top, "step_0.pt", 0)
    half.write_text("half")  # it does not fit its manifest: nobody knows what it is
    outside = _save(job_store.paths.root, "elsewhere.pt", 0)
    (top / "link.pt").symlink_to(outside)
    (top / "link.pt.json").symlink_to(outside.with_name("elsewhere.pt.json"))
    store.create_job("waits", "eva", {"resume": str(top / "step_02.pt")})
    placements = tuple(place(Request(), NODES, store.gpus(), {}))
    gang = Gang(JOB, number, placements, "10.0.0.0", 29500, "t0k3n", str(top / "step_04.pt"))

    asyncio.run(finish_attempt(store, gang, {}, {}, Outcome("completed"), 3))
    names = {path.name for path in top.glob("*.pt")}
    steps = {f"step_{step:02d}.pt" for step in (2, 4, 8, 9, 10)}
    assert names == steps | {"best.pt", "final.pt", "step_00.pt", "step_0.pt", "link.pt"}
    assert {path.name for path in (top / NODES[1]).glob("*.pt")} == {"step_08.pt", "step_09.pt", "step_10.pt"}
    kept = {path.name.removesuffix(".json") for path in top.glob("*.json")}
    assert kept == names - {"step_00.pt"}, "manifests go with their checkpoints"
    assert outside.exists()
    (told,) = [event for event in store.events(JOB) if event.kind == "checkpoints_forgotten"]
    assert told.data and len(told.data["names"]) == 12
    assert checkpoints.newest(job_store.paths) == top / "final.pt"


def test_of_one_checkpoint_alone_none_goes(job_store: JobStore) -> None:
    last = [_save(job_store.paths.checkpoints, f"step_{step}.pt", step) for step in (1, 2)][-1]
    assert len(checkpoints.forget_old(job_store.paths, 1)) == 0  # the newest does not count
    assert checkpoints.newest(job_store.paths) == last
    _save(job_store.paths.checkpoints, "step_3.pt", 3)
    assert [path.name for path in checkpoints.forget_old(job_store.paths, 1)] == ["step_1.pt"]
