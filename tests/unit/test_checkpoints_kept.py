# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The central store keeps the newest checkpoints of a job, and those that somebody needs."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.unit.job_store import JOB, NODES, JobStore, job_store  # noqa: F401 - a fixture
from tests.unit.test_patience import locked
from ugro_py import checkpoints
from ugro_py.finish import finish_attempt
from ugro_py.gang import Outcome
from ugro_py.plan import Gang
from ugro_py.recovery.copies import KEEP, Copies
from ugro_py.scheduler import Request, place


def _save(folder: Path, name: str, step: int, *, manifest: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
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


def test_that_checkpoints_went_is_told_though_the_database_is_away_just_then(
    job_store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, top, number = job_store.store, job_store.paths.checkpoints, job_store.attempt()
    for step in range(1, 5):
        _save(top, f"step_{step}.pt", step)
    placements = tuple(place(Request(), NODES, store.gpus(), {}))
    gang = Gang(JOB, number, placements, "10.0.0.0", 29500, "t0k3n")
    forget, lock = checkpoints.forget_old, ExitStack()

    def unlock_when_noticed() -> None:
        deadline = time.monotonic() + 30
        while not store.database.outage.away_s and time.monotonic() < deadline:
            time.sleep(0.01)
        lock.close()

    unlocking = threading.Thread(target=unlock_when_noticed)

    def forgotten(*args: Any) -> list[Path]:
        if old := forget(*args):
            lock.enter_context(locked(Path(str(store.database.url.database))))
            unlocking.start()
        return old

    monkeypatch.setattr(checkpoints, "forget_old", forgotten)
    asyncio.run(finish_attempt(store, gang, {}, {}, Outcome("completed"), 1))
    unlocking.join()
    kinds = [event.kind for event in store.events()]
    assert kinds.count("database_away") == 1, "it was away"
    (told,) = [event for event in store.events(JOB) if event.kind == "checkpoints_forgotten"]
    assert told.data == {"names": ["step_1.pt", "step_2.pt"]}


def test_of_one_checkpoint_alone_none_goes(job_store: JobStore) -> None:
    last = [_save(job_store.paths.checkpoints, f"step_{step}.pt", step) for step in (1, 2)][-1]
    assert len(checkpoints.forget_old(job_store.paths, 1)) == 0  # the newest does not count
    assert checkpoints.newest(job_store.paths) == last
    _save(job_store.paths.checkpoints, "step_3.pt", 3)
    assert [path.name for path in checkpoints.forget_old(job_store.paths, 1)] == ["step_1.pt"]


def test_what_the_ranks_of_a_node_saved_at_one_step_is_one_checkpoint(job_store: JobStore) -> None:
    top = job_store.paths.checkpoints
    for step in (1, 2, 3):
        for rank in range(4):
            _save(top, f"step_{step}_rank_{rank}.pt", step)
    assert {path.name[:6] for path in checkpoints.forget_old(job_store.paths, 2)} == {"step_1"}
    assert len(list(top.glob("*.pt"))) == 8


def test_folders_of_the_best_stay_but_not_those_of_a_node_that_is_called_so(job_store: JobStore) -> None:
    top, number = job_store.paths.checkpoints, job_store.attempt()
    job_store.event(number, "best-node", 1.0, "rank_started", rank=1, pid=5)
    for step in (1, 2, 3):
        for folder in (top, top / "Best", top / "best-node"):
            _save(folder, f"step_{step}.pt", step)
    _save(top, "step_4.pt", 4)
    _save(top / "best-node", "step_4.pt", 4)
    old = checkpoints.forget_old(job_store.paths, 1)
    assert sorted(str(path.relative_to(top)) for path in old) == [
        *(f"best-node/step_{step}.pt" for step in (1, 2, 3)), "step_1.pt", "step_2.pt",
    ]  # fmt: skip


def _wanted(job_store: JobStore, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Have a job wait that was asked to resume from a file; the store has a second name."""
    data = job_store.paths.root.parents[1]
    link = data.with_name("link")
    link.symlink_to(data)
    job_store.store.create_job("waits", "eva", {"resume": str(path.resolve())})  # as `--resume PATH` is kept
    monkeypatch.setenv("UGRO_DATA", str(link))


@pytest.mark.parametrize("folder", [False, True])
def test_what_is_in_use_stays_by_whatever_name(
    job_store: JobStore, monkeypatch: pytest.MonkeyPatch, folder: bool
) -> None:
    top = job_store.paths.checkpoints / "run" if folder else job_store.paths.checkpoints
    for step in (1, 2, 3, 4):
        _save(top, f"step_{step}.pt", step)
    _wanted(job_store, monkeypatch, top if folder else top / "step_1.pt")
    circle = job_store.paths.root / "circle"
    circle.symlink_to(circle)  # made of a path of somebody's request since: no other job may suffer from it
    job_store.store.create_job("odd", "mallory", {"resume": str(circle)})
    old = checkpoints.forget_old(job_store.paths, 1, checkpoints.in_use(job_store.store))
    assert [path.name for path in old] == ([] if folder else ["step_2.pt"])


def test_a_copy_that_another_job_is_to_resume_from_stays_while_the_job_runs(
    job_store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    top, number = job_store.paths.checkpoints, job_store.attempt()
    _wanted(job_store, monkeypatch, top / "step_2.pt")

    async def saved(self: Copies, node: str, name: str) -> Path:
        return _save(job_store.paths.checkpoints, name, int(name[5:-3]))

    monkeypatch.setattr(Copies, "_copy", saved)
    placements = tuple(place(Request(), NODES, job_store.store.gpus(), {}))

    async def play() -> None:
        copies = Copies(job_store.store, Gang(JOB, number, placements, "10.0.0.0", 29500, "t0k3n"), {}, {})
        for step in range(1, KEEP + 4):
            event: Mapping[str, Any] = {"kind": "checkpoint", "path": f"checkpoints/step_{step}.pt"}
            copies.take(NODES[0], event)
            await copies.finish()

    asyncio.run(play())
    assert {path.name for path in top.glob("*.pt")} == {f"step_{step}.pt" for step in (2, 4, 5, 6)}


def _trainer(folder: Path, step: int, *, best: str = "", whole: bool = True) -> Path:
    """Write what transformers does: weights first, `trainer_state.json` last."""
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "model.safetensors.index.json"):
        (folder / name).write_text("weights")
    state = {"global_step": step, "best_model_checkpoint": f"/node/out/{best}" if best else None, "log_history": [{}]}
    text = json.dumps(state, indent=2) + "\n"
    (folder / "trainer_state.json").write_text(text if whole else text[:-2])
    return folder


def _names(top: Path) -> list[str]:
    return sorted(path.name for path in top.iterdir())


def test_folders_of_transformers_go_as_a_whole_but_for_the_best_and_what_is_needed(
    job_store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    top, number = job_store.paths.checkpoints, job_store.attempt()
    job_store.event(number, NODES[1], 1.0, "rank_started", rank=1, pid=5)
    for step in range(10, 80, 10):
        _trainer(top / f"checkpoint-{step}", step, best="checkpoint-20", whole=step != 70)
        state = top / NODES[1] / f"checkpoint-{step}" / "rng_state_1.pth"  # the other node's part of it
        state.parent.mkdir(parents=True)
        state.write_text("random")
        os.utime(top / f"checkpoint-{step}" / "model.safetensors", (step, step))
    (top / "checkpoint-9").mkdir()  # half of one: nobody knows what it is
    _wanted(job_store, monkeypatch, top / "checkpoint-10" / "model.safetensors")
    old = checkpoints.forget_old(job_store.paths, 1, checkpoints.in_use(job_store.store))
    assert [path.name for path in old] == ["checkpoint-30", "checkpoint-40", "checkpoint-50"]
    left = [f"checkpoint-{step}" for step in (10, 20, 60, 70)]
    assert _names(top) == [*left, "checkpoint-9", NODES[1]]
    assert _names(top / NODES[1]) == left
    assert len(list((top / "checkpoint-60").iterdir())) == 4, "what stays is not touched"


def test_a_folder_for_each_step_is_one_checkpoint_if_its_manifests_fit(job_store: JobStore) -> None:
    top = job_store.paths.checkpoints / "run"
    for step in (99, 100, 101, 102, 103):
        _save(top / f"step_{step}", "model.pt", step)
        _save(top / f"step_{step}", "optimizer.pt", step)
        (top / f"step_{step}" / "tokenizer.json").write_text("{}")
    (top / "step_100" / "optimizer.pt").write_text("half")
    (top / "step_98").mkdir()
    (top / "step_98" / "notes.txt").write_text("of a person")
    (top / "step_97").symlink_to(top / "step_103")
    for step in (1, 2, 3):
        _save(top / "epoch_1", f"at_{step}.pt", step)  # not one checkpoint: each of its own
        _save(top / f"step_{step}_best", "model.pt", step)
    old = checkpoints.forget_old(job_store.paths, 1)
    assert [path.name for path in old] == ["at_1.pt", "at_2.pt", "step_99", "step_101"]
    best = [f"step_{step}_best" for step in (1, 2, 3)]
    assert _names(top) == ["epoch_1", "step_100", "step_102", "step_103", *best, "step_97", "step_98"]
    assert checkpoints.newest(job_store.paths) in (top / "step_103" / "model.pt", top / "step_103" / "optimizer.pt")
    assert checkpoints.forget_old(job_store.paths, 1) == []


def test_folders_of_torch_distributed_count_once_their_metadata_is_there(job_store: JobStore) -> None:
    top = job_store.paths.checkpoints
    for step in (8, 9, 10, 11):
        (top / f"global_step{step}").mkdir()
        (top / f"global_step{step}" / "__0_0.distcp").write_text("shard")
        os.utime(top / f"global_step{step}" / "__0_0.distcp", (step, step))
        if step != 9:
            (top / f"global_step{step}" / ".metadata").write_text("all shards")
            os.utime(top / f"global_step{step}" / ".metadata", (step, step))
    assert [path.name for path in checkpoints.forget_old(job_store.paths, 1)] == ["global_step8"]
    assert _names(top) == ["global_step10", "global_step11", "global_step9"]
