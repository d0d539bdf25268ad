"""`ugro resume` and `ugro rerun`: a job once more, the same one from its newest checkpoint, or a new one like it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ugro_py import checkpoints, secret_env
from ugro_py.display import duration
from ugro_py.errors import StateError, UsageError
from ugro_py.names import check_name, new_job_name
from ugro_py.paths import JobPaths
from ugro_py.queue import spool
from ugro_py.queue.actions import check_submission
from ugro_py.request.job import JobRequest
from ugro_py.state import Controller, JobRow, Store
from ugro_py.state._queue import UNTIL, holds_loosely


def check_secrets(request: JobRequest, given: Sequence[str]) -> None:
    """Refuse other secrets than a job has.

    Raises:
        UsageError: one is missing, or is none of the job's.
    """
    if set(given) != set(request.secret_env):
        needed = " ".join(f"--secret-env {name}" for name in request.secret_env)
        raise UsageError(
            f"secrets of job {request.name}", f"it has {', '.join(request.secret_env) or 'none'}",
            f"give {needed}" if needed else "leave --secret-env out",
        )  # fmt: skip


def reopen(
    store: Store,
    name: str,
    controller: Controller | None,
    secrets: Mapping[str, str],
    time_limit_s: float | None = None,
    max_priority: int = 100,
) -> JobRow:
    """Put a job that failed or was stopped back into the queue, under its own name.

    Its next attempt runs the code it was submitted with and goes on from its newest complete checkpoint. A job that is
    held because its secrets were lost is let go; one that an admin held before it ended is held still.

    Args:
        store: the state store.
        name: the job.
        controller: the process that is to wait with the job; None leaves that to the agent.
        secrets: the values of its secrets, kept in this process from here on.
        time_limit_s: how long it may run from here on; None leaves it what is left of its limit.
        max_priority: what the caller may ask for; a higher priority comes down to it.

    Raises:
        NotFoundError: there is no such job.
        UsageError: it runs, waits or has completed; its secrets are others; or nothing is left of its time limit.
        StateError: what it was submitted with is gone.
        RightsError: its user has as many jobs as the quota allows.
    """
    job = store.job(name)
    request = JobRequest.from_dict(job.request)
    check_secrets(request, tuple(secrets))
    # What a person holds is not let go by this: an admin's word would be worth nothing.
    by_ugro = job.held and (job.held_by or "").startswith(UNTIL)
    lost_secrets = job.status == "pending" and by_ugro and bool(request.secret_env)
    if job.active and not lost_secrets:
        raise UsageError(f"resume job {name}", f"it is {job.status}", f"see `ugro status {name}`")
    if job.status == "completed":
        raise UsageError(f"resume job {name}", "it has completed", f"run it anew: `ugro rerun {name}`")
    if not spool.exists(name):
        raise StateError(f"resume job {name}", "its code was not kept", "launch it anew with --resume")
    if not lost_secrets:
        check_submission(store, job.user, job.group)
    limit_s = None if lost_secrets else _new_limit(store, name, request.time_limit_s, time_limit_s)
    if controller is not None:
        # A process that waits without the secrets sees that it has lost the job, and ends.
        claimed = store.claim(name, replace(controller, replaces=job.controller))
        if not claimed:
            raise StateError(f"resume job {name}", "another process has just taken it", f"see `ugro status {name}`")
    secret_env.keep(name, secrets)
    if lost_secrets:
        store.let_go(name, job.user)
    else:
        newest = checkpoints.newest(JobPaths(name))
        told = f"goes on from {newest.name}" if newest else "starts from the beginning"
        store.reopen(name, told, time_limit_s=limit_s, max_priority=max_priority)
    return store.job(name)


def _new_limit(store: Store, name: str, limit_s: float | None, more_s: float | None) -> float | None:
    """Return the time limit of a job that is resumed, None where it stays what it is.

    Raises:
        UsageError: nothing is left of it.
    """
    ran_s = store.run_seconds(name)
    if more_s is not None:
        return math.ceil(ran_s) + more_s
    if limit_s is not None and ran_s >= limit_s:
        raise UsageError(
            f"resume job {name}", f"its time limit of {duration(limit_s)} is used up",
            f"give it more: `ugro resume {name} --time-limit 1h`",
        )  # fmt: skip
    return None


def request_again(
    store: Store, name: str, new_name: str | None, secrets: Sequence[str] = (), max_priority: int = 100
) -> JobRequest:
    """Return the request of a new job like an earlier one; its files are in the spool of that one.

    A priority above `max_priority` comes down to it. Where an admin holds the earlier job the new one is to be held
    too: whoever holds the one must let go the other.

    Raises:
        NotFoundError: there is no such job.
        UsageError: the new name is no valid one, or the secrets are others.
        StateError: what the job was submitted with is gone.
    """
    job = store.job(name)
    old = JobRequest.from_dict(job.request)
    check_secrets(old, secrets)
    if not spool.exists(name):
        raise StateError(f"rerun job {name}", "its code was not kept", "launch it anew")
    chosen = check_name(new_name if new_name is not None else new_job_name())
    held = job.active and job.held and not holds_loosely(job.held_by, job.user)
    return replace(
        old, name=chosen, hold=held, after=(), no_wait=False, priority=min(old.priority, max_priority)
    )  # fmt: skip
