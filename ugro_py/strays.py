"""End what still runs of attempts that are over: a node that was cut off and comes back must not train on.

The attempt is a fencing token: what a node tells of its running attempts is compared with the store at each contact.
Attempts that this store does not know belong to another one, and are left alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ugro_py.errors import NodeError, NotFoundError
from ugro_py.plan import node_token
from ugro_py.transport import Session

if TYPE_CHECKING:
    from ugro_py.state import Store


async def end_strays(store: Store, sessions: Mapping[str, Session], reports: Mapping[str, Mapping[str, Any]]) -> bool:
    """Stop every attempt that runs on a node although this store knows that it is over; say whether there was one.

    Args:
        store: the state store.
        sessions: open sessions by node.
        reports: readings of those nodes (`session.do_report`).
    """
    found = [
        (sessions[name], running)
        for name, report in reports.items()
        for running in report["running"]
        if _is_over(store, name, running)
    ]
    await asyncio.gather(*(_end(store, session, running) for session, running in found))
    return bool(found)


def _is_over(store: Store, node: str, running: Mapping[str, Any]) -> bool:
    job, number = running["job"], running["attempt"]
    try:
        attempt, newest = store.attempt(job, number), store.attempt(job)
        active = store.job(job).active
    except NotFoundError:
        return False
    if attempt is None or newest is None or running["token"] != node_token(attempt.token, node):
        return False  # a job of the same name, of another store
    return not active or number != newest.number or attempt.ended_at is not None


async def _end(store: Store, session: Session, running: Mapping[str, Any]) -> None:
    job, number, node = running["job"], running["attempt"], session.node.name
    try:
        await session.call("stop", job=job, attempt=number, reason="the attempt is over", grace_s=0.0)
    except NodeError as error:
        store.add_event("stray", f"{node}: attempt {number} still runs: {error}", job=job, node=node, severity="error")
    else:
        store.add_event("stray", f"{node}: ended attempt {number}, which was over", job=job, node=node)
