# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Submissions to the real server: many at once, counted exactly, kept whatever ends the agent."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.unit.api_server import Serve, Served, start  # noqa: F401 - a fixture
from ugro_py import paths, users
from ugro_py.api.client import Client
from ugro_py.api.together import Together
from ugro_py.errors import NotFoundError, RightsError, UgroError, UsageError
from ugro_py.names import NameTakenError
from ugro_py.paths import JobPaths
from ugro_py.queue import spool
from ugro_py.queue.spool_train import Training
from ugro_py.saved import cluster_of
from ugro_py.state import Store
from ugro_py.state._submit import NewJob


def at_once(served: Served, requests: Sequence[dict[str, object]]) -> list[str]:
    """Submit from as many threads; return for each the job's name, or what came back."""
    client = Client(served.path)

    def submit(request: dict[str, object]) -> str:
        try:
            return str(client.submit(request)["job"])
        except UgroError as error:
            return f"{type(error).__name__}: {error}"

    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(submit, requests))


def test_who_submits_at_the_same_moment_shares_transactions(start: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    served = start()
    store, sizes = served.agent.store, []
    queue = served.app.state.submissions._into_queue
    whole = type(store).submit_jobs

    def slow(self: Store, asked: Sequence[NewJob]) -> object:
        sizes.append(len(asked))
        deadline = time.monotonic() + 60
        while len(sizes) == 1 and len(queue._waiting) < 15 and time.monotonic() < deadline:
            time.sleep(0.01)  # a disk that is busy for as long as it takes others to come
        return whole(self, asked)

    monkeypatch.setattr(type(store), "submit_jobs", slow)
    names = [f"job-{number}" for number in range(20)]
    assert at_once(served, [{"name": name, "hold": True} for name in names]) == names
    assert sum(sizes) == 20 and len(sizes) <= 6
    assert {job.name for job in store.jobs()} == set(names)
    lines = [line for line in store.audit() if line.verb == "submit"]
    assert sorted(line.target for line in lines) == sorted(names) and {line.outcome for line in lines} == {"done"}
    for name in names:
        assert (spool.load(name).code.root / "train_production.py").is_file()
        assert cluster_of(name).name == "test"
    assert list(paths.spool_inbox().iterdir()) == []
    assert served.agent.woken == 0  # none of them can start


def test_a_quota_and_a_name_hold_at_the_same_moment(start: Serve) -> None:
    served = start()
    store = served.agent.store
    store.set_account("user", users.me().user, max_queued=3)
    said = at_once(served, [{"name": f"job-{number}"} for number in range(8)])
    assert sum(one.startswith("job-") for one in said) == 3
    assert sum(one.startswith("RightsError") and "quota" in one for one in said) == 5
    assert len(store.jobs()) == 3 == len(list((paths.data_dir() / "jobs").iterdir()))  # nothing is left of the others
    store.set_account("user", users.me().user, max_queued=None)
    said = at_once(served, [{"name": "same"}] * 5)
    assert sorted(one.split(":")[0] for one in said) == ["UsageError"] * 4 + ["same"]
    assert spool.exists("same")
    outcomes = {line.outcome.split(":")[0]: line.count for line in store.audit() if line.target != "same"}
    assert outcomes.keys() == {"done", "refused"}


def test_one_refused_does_not_take_the_others_along(tmp_path: Path) -> None:
    with Store.open(f"sqlite:///{tmp_path}/ugro.db") as store:
        store.create_job("there", "eva", {})
        asked = [("a", ()), ("there", ()), ("b", ("nobody",)), ("c", ("a",))]
        made = store.submit_jobs(
            [NewJob(name, "ob", "staff", {"after": after}, 1000, "socket") for name, after in asked]
        )
        assert [getattr(one, "name", type(one)) for one in made] == ["a", NameTakenError, NotFoundError, "c"]
        assert {job.name for job in store.jobs()} == {"there", "a", "c"}
        store.set_account("group", "staff", max_queued=3)
        made = store.submit_jobs([NewJob(name, "ob", "staff", {}, 1000, "socket") for name in ("d", "e")])
        assert [type(one).__name__ for one in made] == ["JobRow", "RightsError"]
        assert store.is_free("e") and not store.is_free("d")


def test_only_those_whose_start_broke_off_are_interrupted(tmp_path: Path) -> None:
    from ugro_py.cluster import Node
    from ugro_py.scheduler import Gpu, Request, place

    with Store.open(f"sqlite:///{tmp_path}/ugro.db") as store:
        store.sync_node(Node("n", "127.0.0.1"), [Gpu("CPU-n-0", "n", 0, "cpu", "CPU", None)], {})
        for name in ("new", "broken"):
            store.create_job(name, "ob", {})
        places = place(Request(), ["n"], store.gpus(), {})
        store.start_attempt("broken", places, master_addr="127.0.0.1", master_port=29500, token="t")
        assert store.interrupted() == {"broken"}


KILLED = """
import sys, time
from pathlib import Path
from tests.unit.api_server import Served
served = Served(Path(sys.argv[1]))
print("ready", flush=True)
time.sleep(600)
"""


def test_what_was_accepted_outlives_sigkill(tmp_path: Path) -> None:
    env = {**os.environ, "UGRO_DATA": str(tmp_path)}
    argv = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            client = Client(tmp_path / "agent.sock")
            for number in range(10):
                client.submit({"name": f"job-{number}"})
        finally:
            process.send_signal(signal.SIGKILL)
    with Store.open(f"sqlite:///{tmp_path}/ugro.db") as store:
        assert len(store.jobs()) == 10
        assert all((tmp_path / "jobs" / job.name / "spool" / paths.SPOOL_MANIFEST).is_file() for job in store.jobs())


def test_what_was_recorded_soon_is_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync = os.fsync
    with Store.open(f"sqlite:///{tmp_path}/ugro.db") as store:
        monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd)))
        store.submit_jobs([NewJob("job", "ob", None, {}, 1000, "socket")])
        store.flush()
        with store.database.read() as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # all else is FULL again
        store.create_job("other", "ob", {})  # our locks on the database were not dropped
    assert synced == [f"{tmp_path}/ugro.db-wal"]


def test_training_is_copied_once_and_again_when_it_is_updated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UGRO_DATA", str(tmp_path / "data"))
    code = tmp_path / "train"
    code.mkdir()
    (code / "train_production.py").write_text("one")
    monkeypatch.setattr(paths, "train_dir", lambda: code)
    monkeypatch.setattr("ugro_py.queue.spool_train._LOOK_S", 0.0)
    training = Training()
    for name in ("a", "b"):
        spool.commit(training.spool(), name)
    scripts = [JobPaths(name).spool / spool.CODE / "train_production.py" for name in ("a", "b")]
    assert scripts[0].stat().st_ino == scripts[1].stat().st_ino
    (code / "train_production.py").write_text("two")
    spool.commit(training.spool(), "c")
    assert [(spool.load(name).code.root / "train_production.py").read_text() for name in "abc"] == ["one", "one", "two"]

    def too_many(*_names: object) -> None:
        raise OSError(31, "Too many links")

    monkeypatch.setattr(os, "link", too_many)
    spool.commit(training.spool(), "d")
    assert (spool.load("d").code.root / "train_production.py").read_text() == "two"
    kept = paths.kept_training(spool.load("c").code.digest) / spool.CODE / "train_production.py"
    kept.write_text("spoilt")
    monkeypatch.undo()
    monkeypatch.setenv("UGRO_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(paths, "train_dir", lambda: code)
    spool.commit(Training().spool(), "e")  # the next agent notices
    assert (spool.load("e").code.root / "train_production.py").read_text() == "two"


def test_what_fails_for_all_is_raised_for_each() -> None:
    begun, go = threading.Event(), threading.Event()

    def do(items: Sequence[int]) -> list[int]:
        begun.set()
        assert go.wait(20)
        if 3 in items:
            raise RightsError("no")
        return [2 * item for item in items]

    together = Together(do)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(together, 1)
        assert begun.wait(20)
        others = [pool.submit(together, item) for item in (2, 3)]
        while len(together._waiting) < 2:
            time.sleep(0.01)
        go.set()
        assert first.result() == 2
        assert all(isinstance(other.exception(), RightsError) for other in others)
    assert together(4) == 8


def test_tags_and_a_note_are_there_with_the_job(start: Serve) -> None:
    served = start()
    client, store = Client(served.path), served.agent.store
    said = {"tags": ["lr:3e-4", "good", "good"], "note": "why\r\nand how"}
    client.submit({"name": "job", "hold": True, **said})
    assert (store.tags("job"), store.note("job")) == (("good", "lr:3e-4"), "why\nand how")
    asked = store.job("job").request
    assert (asked["tags"], asked["note"]) == ([], "")  # they may change: the job's are those above
    store.create_job("here", "ob", said)
    assert (store.tags("here"), store.note("here")) == (("good", "lr:3e-4"), "why\nand how")
    for wrong in ({"tags": ["bad!tag"]}, {"note": "x" * 20_001}, {"tags": [f"t{n}" for n in range(31)]}):
        with pytest.raises(UsageError, match=r"tag|note"):
            client.submit({"name": "wrong", "hold": True, **wrong})
        with pytest.raises(UsageError, match=r"tag|note"):
            store.create_job("wrong", "ob", wrong)
    assert {job.name for job in store.jobs()} == {"job", "here"}


def test_a_secret_that_no_variable_can_hold_is_refused(start: Serve) -> None:
    served = start()
    client = Client(served.path)
    request = {"name": "job", "secret_env": ["KEY"], "hold": True}
    for wrong in ({"KEY": "a\0b"}, {}, {"KEY": "x", "OTHER": "y"}):
        with pytest.raises(UsageError, match=r"KEY|secrets"):
            client.submit(request, None, wrong)
    for name in ("a b", "UGRO_TOKEN", "A\0", "A=B"):
        with pytest.raises(UsageError, match="secret-env"):
            client.submit({**request, "secret_env": [name]}, None, {name: "x"})
    assert served.agent.store.jobs() == []
