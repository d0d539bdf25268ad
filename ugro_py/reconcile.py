"""Make the store true again before it is read: a job whose controller died gets a new one.

Where an agent runs that is the agent, which sees it by itself; else a process in the background.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ugro_py import secret_env
from ugro_py.errors import UgroError
from ugro_py.paths import JobPaths
from ugro_py.state import Controller, JobRow, Store

# How long a verb waits for a background controller to catch up with a job that lost its own.
_CATCH_UP_S = 15.0
# A job that was only just created gets its controller in the same breath.
_NEWBORN_S = 5.0
_EVERY_S = 5.0


def in_background(name: str) -> int:
    """Start a process of its own that takes the job over, with the secrets that this one has; returns its pid."""
    paths = JobPaths(name)
    paths.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with paths.controller_log.open("ab") as log:
        process = subprocess.Popen(
            # -P: modules are UGRO's and the standard library's, never those of the folder it was started in.
            [sys.executable, "-P", "-m", "ugro_py.controller", name],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    assert process.stdin
    try:
        process.stdin.write(secret_env.to_pipe(name))
        process.stdin.close()
    except BrokenPipeError:
        pass  # it ended at once, and its log says why
    return process.pid


def hand_over(store: Store, name: str, controller: Controller) -> None:
    """Let the agent, or a process in the background, control the job instead of `controller`."""
    store.unclaim(name, controller)
    if not has_agent(store):
        in_background(name)


def has_agent(store: Store) -> bool:
    """Return whether an agent acts for the cluster of this store."""
    lease = store.lease()
    return lease is not None and lease.held


def reconcile(store: Store, name: str | None = None) -> None:
    """Make the store true again: a job whose controller died gets a new one, and what it missed is read.

    Costs one query when every active job has its controller. Waits until the new controller has caught up; a job that
    waits in the queue of an agent needs none.
    """
    orphans = [job for job in store.jobs(active=True) if name in (None, job.name) and _is_orphan(job)]
    if not orphans:
        return
    agent = has_agent(store)
    started: set[str] = set()
    deadline = time.monotonic() + _CATCH_UP_S
    while time.monotonic() < deadline:
        if not agent:
            # Also those whose agent ended just now.
            for job in orphans:
                if job.name not in started:
                    started.add(job.name)
                    in_background(job.name)
        if all(_settled(store, store.job(job.name), agent) for job in orphans):
            return
        time.sleep(0.1)
        agent = agent and has_agent(store)


@contextmanager
def kept_true(store: Store) -> Iterator[threading.Thread]:
    """Reconcile now and every 5 seconds while the block lasts, in a thread: it may wait for a new controller.

    Yields that thread: it may use the store for a while after the block.
    """
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            with suppress(UgroError):  # whoever reads the store meets the same, and tells
                reconcile(store)
            over.wait(_EVERY_S)

    thread = threading.Thread(target=work, name="reconcile", daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        over.set()


def _is_orphan(job: JobRow) -> bool:
    if job.controller is None:
        return time.time() - job.created_at.timestamp() > _NEWBORN_S
    return job.controller.is_alive() is False


def _settled(store: Store, job: JobRow, agent: bool) -> bool:
    """Say whether the job has ended, waits in the queue, or its new controller has told that it follows."""
    if not job.active:
        return True
    if job.controller is None or not job.controller.is_alive():
        return agent and job.status == "pending" and not job.stop_requested
    if job.status == "pending":
        return True
    return any(
        event.kind == "following" and (event.data or {}).get("pid") == job.controller.pid
        for event in store.events(job.name, limit=20)
    )
