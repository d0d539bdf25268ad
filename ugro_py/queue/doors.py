"""The queue for the verb `ugro queue`: through the agent where one runs, else in the caller's own store."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ugro_py.api.client import connect, job_path


def listed(inventory: str | None) -> list[dict[str, Any]]:
    """Return the jobs that wait, see `ugro_py.queue.shown.entries`.

    Raises:
        UgroError: the inventory or the store cannot be read.
    """
    client = connect(reading=True)
    if client is not None:
        return list(client.get("/v1/queue"))
    from ugro_py.inventory import load_cluster
    from ugro_py.queue.shown import entries
    from ugro_py.state import Store

    with Store.open() as store:
        return entries(store, load_cluster(inventory), time.time())


def change(job: str, verb: str, **values: Any) -> bool:
    """Change a job that waits; return whether anything changed. Noted in the audit trail.

    Args:
        job: its name.
        verb: hold, release, cancel, priority (with `priority`) or move (with `to` or `before`).
        values: of the verb.

    Raises:
        RightsError: the job is somebody else's.
        NotFoundError: there is no such job.
        UsageError: it does not wait any more, or a value cannot be used.
    """
    client = connect()
    if client is not None:
        return bool(client.post(job_path(job, verb), values)["changed"])
    from ugro_py import users
    from ugro_py.audit import audited_here
    from ugro_py.queue import actions
    from ugro_py.state import Store

    person = users.me()
    with Store.open() as store, audited_here(store, verb, job, **values):
        acts: dict[str, Callable[[], bool]] = {
            "hold": lambda: actions.hold(store, job, person.user, admin=True),
            "release": lambda: actions.release(store, job, person.user),
            "cancel": lambda: actions.cancel(store, job, person.user),
            "priority": lambda: actions.set_priority(store, job, values["priority"], person.user),
            "move": lambda: actions.move(
                store, job, values["to"] or "before", person.user, other=values["before"]
            ),
        }  # fmt: skip
        return acts[verb]()
