"""Stop a job: ask its controller, or become it where the old one is gone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ugro_py.audit import audited_here
from ugro_py.errors import StateError
from ugro_py.plan import STOP_GRACE_S
from ugro_py.reconcile import reconcile
from ugro_py.state import JobRow, Store
from ugro_py.state.models import ENDED

if TYPE_CHECKING:
    from ugro_py.api.client import Client

# Beyond the ranks' grace period: collecting what they left can take its time.
_COLLECT_S = 600.0


def stop_over(client: Client, job: str, *, force: bool = False) -> tuple[str, bool]:
    """Ask the agent to stop a job and wait until it has ended everywhere.

    Returns:
        Its status, and whether this call changed anything.

    Raises:
        NotFoundError: there is no such job.
        RightsError: it is somebody else's.
        StateError: it did not stop in time.
    """
    from ugro_py.api.client import job_path

    done = client.post(job_path(job, "stop"), {"force": force})
    status, deadline = done["status"], time.monotonic() + STOP_GRACE_S + _COLLECT_S
    while status not in ENDED:
        if time.monotonic() > deadline:
            raise StateError(f"stop job {job}", f"it is still {status}", f"see `ugro status {job}`")
        time.sleep(0.2)
        status = client.get(job_path(job))["status"]
    return status, bool(done["changed"])


def stop_job(store: Store, name: str, *, force: bool = False) -> tuple[JobRow, bool]:
    """Stop a job and wait until it has ended everywhere.

    Returns:
        The job as it is now, and whether this call changed anything.

    Raises:
        NotFoundError: there is no such job.
        StateError: its controller did not stop it in time.
    """
    job = store.job(name)
    if not job.active:
        return job, False
    with audited_here(store, "stop", name, force=force):
        store.request_stop(name, force)
    reconcile(store, name)
    deadline = time.monotonic() + STOP_GRACE_S + _COLLECT_S
    while (job := store.job(name)).active:
        if time.monotonic() > deadline:
            raise StateError(
                f"stop job {name}", f"it is still {job.status}", f"see `ugro status {name}` and its controller.log"
            )
        time.sleep(0.05)
        if job.controller is None or job.controller.is_alive() is False:
            reconcile(store, name)
    return job, True
