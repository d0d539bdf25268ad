"""Put a job into the queue: its row in the store, and its files in its spool, unchanged until it runs."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path

from ugro_py import capsule
from ugro_py.cluster import Cluster
from ugro_py.errors import UgroError
from ugro_py.queue import spool
from ugro_py.request.job import JobRequest
from ugro_py.saved import save_cluster
from ugro_py.state import Controller, JobRow, Store


def must_wait(store: Store, request: JobRequest) -> bool:
    """Return whether a new job has to join the queue: it is told to wait, others go first, or there are quotas."""
    if request.hold or request.after or any(job.status == "pending" for job in store.jobs(active=True)):
        return True
    return any(one.max_gpus is not None or one.gpu_hours_week is not None for one in store.accounts())


def check(store: Store, request: JobRequest, user: str, group: str | None) -> None:
    """Refuse a job that the queue would not take.

    Raises:
        NotFoundError: it is to run after a job that does not exist.
        RightsError: a quota is used up.
    """
    from ugro_py.queue.actions import check_submission

    for job in request.after:
        store.job(job)
    check_submission(store, user, group)


async def enqueue(
    store: Store,
    cluster: Cluster,
    request: JobRequest,
    user: str,
    controller: Controller,
    *,
    group: str | None = None,
    sources: spool.Sources | None = None,
) -> JobRow:
    """Record a checked request as a job that waits, controlled by this process.

    Args:
        store: the state store.
        cluster: the inventory.
        request: checked by `request.check` and by `check` here.
        user: who asks; `group` is their group.
        controller: this process.
        sources: what was read already; else it is read now. A job that exists already only gets its files.

    Raises:
        UgroError: a file cannot be read, there is no room, or the name was taken; no job is left that waits.
    """
    found = sources if sources is not None else await asyncio.to_thread(spool.read, request)
    git = found.git or await asyncio.to_thread(capsule.git, spool.wanted(request)[spool.CODE])
    folder = await asyncio.to_thread(spool.write, replace(found, git=git))
    return keep(store, cluster, request, user, controller, folder, group)


def keep(
    store: Store,
    cluster: Cluster,
    request: JobRequest,
    user: str,
    controller: Controller,
    folder: Path,
    group: str | None = None,
) -> JobRow:
    """Make a job of a request whose files lie in a folder of the inbox; see `enqueue`."""
    name = request.name
    try:
        if not any(job.name == name for job in store.jobs(active=True)):
            store.create_job(name, user, request.as_dict(), group=group)
            store.claim(name, controller)
        try:
            save_cluster(name, cluster)
            spool.commit(folder, name)
        except (UgroError, OSError) as error:
            store.set_job(name, "failed", f"its files could not be kept: {error}", 1)
            store.unclaim(name, controller)
            raise
    except BaseException:
        if folder.exists():
            shutil.rmtree(folder)
        raise
    return store.job(name)
