"""Many real processes on one store, and processes killed in the middle of their work."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from ugro_py.cluster import Node
from ugro_py.scheduler import Gpu, Placement
from ugro_py.state import Controller, Store

WORKER = Path(__file__).with_name("store_worker.py")
GPU = Gpu("GPU-1", "gpu1", 0, "cuda", "RTX", 8.0)
PLAN = [Placement(0, "gpu1", 0, GPU)]


@pytest.fixture
def one_gpu(store: Store) -> Store:
    store.sync_node(Node("gpu1", "10.0.0.1"), [GPU], {})
    return store


def launch(task: str, url: str, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(WORKER), task, url, name, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=WORKER.parents[2],
    )


@contextmanager
def workers(task: str, url: str, names: Sequence[str], count: int = 1) -> Iterator[list[subprocess.Popen[str]]]:
    """Start a worker per name and wait until all are ready to begin; none outlives the block."""
    with ExitStack() as stack:
        started = [stack.enter_context(launch(task, url, name, count)) for name in names]
        for process in started:
            stack.callback(process.kill)
        for process in started:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line == "ready\n", process.communicate()[1]
        yield started


def race(task: str, url: str, names: Sequence[str], count: int = 1) -> list[str]:
    """Let one worker per name begin at the same moment; return what each printed."""
    with workers(task, url, names, count) as started:
        for process in started:
            go(process)
        outputs = []
        for process in started:
            output, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
            outputs.append(output.strip())
        return outputs


def go(process: subprocess.Popen[str]) -> None:
    """Let a worker begin."""
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def check_whole(store: Store) -> None:
    """Nothing is half-made: every attempt has its rank, and only jobs that are active hold GPUs."""
    with store.database.read() as connection:
        if store.database.sqlite:
            assert connection.scalar(text("PRAGMA integrity_check")) == "ok"
        counts = connection.execute(
            text(
                "SELECT (SELECT count(*) FROM attempts), (SELECT count(*) FROM ranks),"
                " (SELECT count(*) FROM allocations), (SELECT count(*) FROM jobs),"
                " (SELECT count(*) FROM events WHERE text = 'pending')"
            )
        ).one()
    assert counts[0] == counts[1] == counts[2]
    assert counts[3] == counts[4]


def test_of_processes_that_want_one_gpu_exactly_one_gets_it(one_gpu: Store, store_url: str) -> None:
    names = [f"job-{number}" for number in range(5)]
    for name in names:
        one_gpu.create_job(name, "ob", {})
    outcomes = race("allocate", store_url, names)
    assert sorted(outcomes) == ["lost", "lost", "lost", "lost", "won"]
    winner = names[outcomes.index("won")]
    assert one_gpu.busy() == {"GPU-1": winner}
    assert [one_gpu.attempt(name) is not None for name in names] == [name == winner for name in names]
    assert one_gpu.release(winner) == 1
    check_whole(one_gpu)


def test_the_database_itself_refuses_a_second_holder(one_gpu: Store) -> None:
    one_gpu.create_job("one", "ob", {})
    one_gpu.start_attempt("one", PLAN, master_addr="10.0.0.1", master_port=1, token="x")
    columns = "gpu_uuid, attempt_id, allocated_at"
    again = f"INSERT INTO allocations ({columns}) SELECT {columns} FROM allocations"
    with pytest.raises(IntegrityError), one_gpu.database.write() as connection:
        connection.execute(text(again))


def test_200_cycles_by_four_processes_leave_nothing(one_gpu: Store, store_url: str) -> None:
    names = [f"job-{number}" for number in range(4)]
    for name in names:
        one_gpu.create_job(name, "ob", {})
    assert race("cycle", store_url, names, 50) == ["50"] * 4
    assert one_gpu.busy() == {}
    for name in names:
        attempt = one_gpu.attempt(name)
        assert attempt is not None
        assert attempt.number == 50
    with one_gpu.database.read() as connection:
        held = connection.execute(text("SELECT allocated_at, released_at FROM allocations ORDER BY allocated_at")).all()
    assert len(held) == 200
    assert all(before.released_at <= after.allocated_at for before, after in pairwise(held))
    check_whole(one_gpu)


def test_one_process_makes_a_job_and_one_takes_a_dead_controllers_place(store: Store, store_url: str) -> None:
    names = ["a", "b", "c"]
    outcomes = race("create", store_url, names)
    assert sorted(outcomes) == ["lost", "lost", "won"]
    assert store.job("same").user == names[outcomes.index("won")]
    assert store.claim("same", Controller("elsewhere", "boot", 1, 1))
    assert sorted(race("claim", store_url, names)) == ["lost", "lost", "won"]


def test_first_opening_by_several_processes(store_url: str) -> None:
    assert race("open", store_url, ["a", "b", "c", "d"]) == ["won"] * 4
    with Store.open(store_url) as store:
        assert store.jobs() == []


def test_killed_in_mid_transaction(one_gpu: Store, store_url: str) -> None:
    one_gpu.create_job("one", "ob", {})
    one_gpu.create_job("two", "ob", {})
    with workers("hang", store_url, ["one"]) as (process,):
        # Readers are not held up by a transaction that is open, and see nothing of it.
        assert one_gpu.attempt("one") is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    begun = time.monotonic()
    assert one_gpu.attempt("one") is None
    assert one_gpu.ranks("one") == []
    assert one_gpu.start_attempt("two", PLAN, master_addr="10.0.0.1", master_port=1, token="x") == 1
    assert time.monotonic() - begun < 5
    check_whole(one_gpu)


def test_killed_in_mid_migration(store_url: str) -> None:
    with workers("hang-in-migration", store_url, ["x"]) as (process,):
        process.send_signal(signal.SIGKILL)
        process.wait()
    with Store.open(store_url) as store:
        store.create_job("one", "ob", {})
        check_whole(store)


def test_killed_at_any_moment(one_gpu: Store, store_url: str) -> None:
    seeded = random.Random(7)
    for number in range(6):
        with workers("churn", store_url, [f"w{number}"]) as (process,):
            go(process)
            assert process.stdout is not None
            assert process.stdout.readline() == f"w{number}-0\n"
            time.sleep(seeded.uniform(0.0, 0.03))
            process.send_signal(signal.SIGKILL)
            process.wait()
        check_whole(one_gpu)
        # What the next start of UGRO does with a job whose controller is gone.
        for name in one_gpu.busy().values():
            one_gpu.set_job(name, "failed", "its controller was killed")
        assert one_gpu.busy() == {}
    assert len(one_gpu.jobs()) >= 6


def test_a_controller_is_known_alive_dead_or_unknown() -> None:
    me = Controller.me()
    assert me.is_alive() is True
    assert Controller.me(replaces=me) == me
    assert Controller("elsewhere", me.boot_id, me.pid, me.start_ticks).is_alive() is None
    assert Controller(me.host, "another boot", me.pid, me.start_ticks).is_alive() is False
    assert Controller(me.host, me.boot_id, me.pid, me.start_ticks + 1).is_alive() is False
    child = subprocess.Popen(["sleep", "60"])
    child.kill()
    waited = time.monotonic()
    # Killed but not waited for: a zombie has a PID and a start time, yet runs no more.
    stat = Path(f"/proc/{child.pid}/stat")
    while stat.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() - waited < 60
        time.sleep(0.01)
    ticks = int(stat.read_text().rpartition(")")[2].split()[19])
    theirs = Controller(me.host, me.boot_id, child.pid, ticks)
    assert theirs.is_alive() is False
    child.wait()
    assert theirs.is_alive() is False
