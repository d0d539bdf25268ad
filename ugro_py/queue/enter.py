"""A new job without an agent: it starts at once where it may, and joins the queue where it has to wait."""

from __future__ import annotations

import os

from ugro_py.audit import audited_here
from ugro_py.errors import AllocationError
from ugro_py.gang import Outcome
from ugro_py.launch import Launcher, start_job
from ugro_py.plan import Gang
from ugro_py.queue.submit import check, enqueue, must_wait
from ugro_py.ready import NotFreeError, Reached, Ready, check_possible
from ugro_py.run import stay
from ugro_py.state import JobRow
from ugro_py.transport import close_all


async def enter(launcher: Launcher, reached: Reached | None, *, wait: bool) -> tuple[Ready, Gang] | JobRow:
    """Start the job if nobody goes first and its GPUs are free; else return it as it waits in the queue.

    Args:
        launcher: of a checked request whose name is new, made with `may_wait=wait`.
        reached: the nodes, where they were asked just now.
        wait: False refuses what cannot start now.

    Raises:
        AllocationError: it cannot start now and shall not wait, or it could never be met.
        UgroError: it is refused, or could not start.
    """
    with audited_here(launcher.store, "submit", launcher.request.name):
        return await _enter(launcher, reached, wait)


async def _enter(launcher: Launcher, reached: Reached | None, wait: bool) -> tuple[Ready, Gang] | JobRow:
    request, store = launcher.request, launcher.store
    queue = must_wait(store, request)
    if queue and not wait:
        waiting = sum(job.status == "pending" for job in store.jobs(active=True))
        who = "1 job waits and goes" if waiting == 1 else f"{waiting} jobs wait and go"
        raise AllocationError("start now", f"{who} first, or quotas say when", "leave --no-wait out")
    if not queue:
        try:
            return await start_job(launcher)
        except NotFreeError:
            if not wait:
                raise
    elif reached is not None:
        check_possible(request, launcher.cluster, store, reached)
    group = own_group()
    check(store, request, launcher.user, group)
    return await enqueue(store, launcher.cluster, request, launcher.user, launcher.controller, group=group)


async def run_or_wait(launcher: Launcher, reached: Reached | None, *, wait: bool) -> Outcome:
    """Take a new job to its end, through the queue where it has to wait."""
    begun = await enter(launcher, reached, wait=wait)
    if isinstance(begun, JobRow):
        return await _wait(launcher, begun, reached if reached is not None and not reached.closed else None)
    ready, gang = begun
    try:
        outcome = await stay(launcher, gang, ready.nodes, ready.sessions)
    finally:
        await close_all(ready.sessions.values())
    if outcome.status != "pending":
        return outcome
    # It made room for a more urgent job, and waits for its turn again.
    return await _wait(launcher, launcher.store.job(launcher.request.name), None)


async def _wait(launcher: Launcher, job: JobRow, reached: Reached | None) -> Outcome:
    from ugro_py.queue.wait import wait_and_run

    return await wait_and_run(
        launcher.store, launcher.cluster, job, launcher.controller, launcher.tell, reached=reached
    )


def own_group() -> str | None:
    """Return the name of this process's primary group, whose quotas count; None where it has no name."""
    import grp

    try:
        return grp.getgrgid(os.getgid()).gr_name
    except KeyError:
        return None
