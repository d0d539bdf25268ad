"""End what still runs of attempts that are over: a node that was cut off and comes back must not train on.

The attempt is a fencing token: what a node tells of its running attempts is compared with the store at each contact.
An attempt whose token neither this database nor this central store knows belongs to another master, and is left alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ugro_py.errors import NodeError, NotFoundError, UsageError
from ugro_py.names import check_name
from ugro_py.plan import node_token
from ugro_py.saved import load_gang, store_of
from ugro_py.transport import Session

if TYPE_CHECKING:
    from ugro_py.state import Store


async def end_strays(store: Store, sessions: Mapping[str, Session], reports: Mapping[str, Mapping[str, Any]]) -> bool:
    """Stop every attempt of this store that runs on a node although it is over; say whether there was one.

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
        attempt = newest = None
        active = False
    if attempt is None or newest is None or running["token"] != node_token(attempt.token, node):
        return _was_ours(store, node, running)
    return not active or number != newest.number or attempt.ended_at is not None


def _was_ours(store: Store, node: str, running: Mapping[str, Any]) -> bool:
    """Say whether an attempt was recorded in this very database, which does not know it any more: it is an older copy.

    Nobody will ever follow such an attempt. One of the same name of another master has another token, and one of
    another database over the same central store another identity.
    """
    try:
        check_name(running["job"])  # it names a folder, and comes from the node
        found = load_gang(running["job"], int(running["attempt"]))
    except (UsageError, OSError, ValueError, KeyError, TypeError):
        return False
    mine = found is not None and running["token"] == node_token(found[0].token, node)
    return mine and store_of(running["job"], int(running["attempt"])) == store.identity()


async def _end(store: Store, session: Session, running: Mapping[str, Any]) -> None:
    job, number, node = running["job"], running["attempt"], session.node.name
    severity, text = "info", f"{node}: ended attempt {number}, which was over"
    try:
        await session.call("stop", job=job, attempt=number, reason="the attempt is over", grace_s=0.0)
    except NodeError as error:
        severity, text = "error", f"{node}: attempt {number} still runs: {error}"
    try:
        store.add_event("stray", text, job=job, node=node, severity=severity)
    except NotFoundError:
        text = f"{text} (job {job}, which this database does not know)"
        store.add_event("stray", text, node=node, severity=severity)
