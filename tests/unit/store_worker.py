"""A process that works on a store beside others: `store_worker.py TASK URL NAME COUNT`.

It says `ready`, waits for a line on standard input, does its task and prints what came of it.
"""

from __future__ import annotations

import sys
import time

from ugro_py.errors import AllocationError, UsageError
from ugro_py.scheduler import Placement
from ugro_py.state import Controller, Store
from ugro_py.state.migrations import run as migrations


def wait_for_go() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


def try_to_start(store: Store, job: str) -> bool:
    plan = [Placement(0, "gpu1", 0, store.gpus()[0])]
    try:
        store.start_attempt(job, plan, master_addr="10.0.0.1", master_port=29500, token="x")
    except AllocationError:
        return False
    return True


def allocate(store: Store, name: str, count: int) -> None:
    """Try once to get the one GPU."""
    wait_for_go()
    print("won" if try_to_start(store, name) else "lost")


def cycle(store: Store, name: str, count: int) -> None:
    """Get the GPU and give it back, `count` times."""
    wait_for_go()
    held = 0
    while held < count:
        if not try_to_start(store, name):
            time.sleep(0.001)
            continue
        assert list(store.busy().values()) == [name]
        assert store.release(name) == 1
        held += 1
    print(held)


def create(store: Store, name: str, count: int) -> None:
    """Try to make the job `same`."""
    wait_for_go()
    try:
        store.create_job("same", name, {})
        print("won")
    except UsageError:
        print("lost")


def claim(store: Store, name: str, count: int) -> None:
    """Try to take the place of the dead controller of the job `same`."""
    dead = store.job("same").controller
    wait_for_go()
    print("won" if store.claim("same", Controller.me(replaces=dead)) else "lost")


def hang(store: Store, name: str, count: int) -> None:
    """Start an attempt, and stop before its transaction ends."""

    def stay(*_: object) -> None:
        wait_for_go()

    store._allocate = stay  # type: ignore[method-assign]
    try_to_start(store, name)


def churn(store: Store, name: str, count: int) -> None:
    """Make jobs, start and end them, until killed."""
    wait_for_go()
    for number in range(1_000_000):
        job = f"{name}-{number}"
        store.create_job(job, name, {})
        if try_to_start(store, job):
            store.set_job(job, "running")
            store.set_rank(job, 1, 0, status="running", pid=1)
        store.set_job(job, "completed", exit_code=0)
        store.release(job)
        print(job, flush=True)


def main() -> None:
    task, url, name, count = sys.argv[1:]
    if task == "open":
        wait_for_go()
        Store.open(url).close()
        print("won")
        return
    if task == "hang-in-migration":
        upgrade = migrations.upgrade

        def upgrade_and_stay(*arguments: object) -> None:
            upgrade(*arguments)  # type: ignore[arg-type]
            wait_for_go()

        migrations.upgrade = upgrade_and_stay  # type: ignore[assignment]
        Store.open(url)
        return
    with Store.open(url) as store:
        {
            "allocate": allocate,
            "cycle": cycle,
            "create": create,
            "claim": claim,
            "hang": hang,
            "churn": churn,
        }[task](store, name, int(count))


if __name__ == "__main__":
    main()
