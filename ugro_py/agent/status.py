"""What `ugro agent status` shows: the lease, and what the agent of this machine says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ugro_py.errors import NotFoundError, UgroError
from ugro_py.state import Store


def agent_status() -> dict[str, Any]:
    """Return who holds the agent's lease, which jobs it controls, and its loops' times where it can be asked.

    Raises:
        StateError: the state database cannot be used.
    """
    with Store.open() as store:
        lease = store.lease()
        jobs = store.jobs(active=True)
    if lease is None or not lease.held:
        return {"running": False, "last": None if lease is None else _iso(lease.renewed_at)}
    holder = lease.holder
    return {
        "running": True,
        "pid": holder.pid,
        "host": holder.host,
        "term": lease.term,
        "since": _iso(lease.acquired_at),
        "renewed_s_ago": round(lease.age_s, 1),
        "jobs": sorted(job.name for job in jobs if job.controller == holder),
        "loops": _loops(),
    }


def _loops() -> dict[str, Any]:
    """Return the times of the agent's loops; {} where it cannot be asked from here."""
    from ugro_py.api.client import connect

    try:
        client = connect()
        found = client.get("/v1/agent") if client else {}
    except (UgroError, OSError):
        return {}
    loops: Mapping[str, Any] = found.get("loops", {})
    return dict(loops)


def _iso(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def lines(found: Mapping[str, Any]) -> list[str]:
    """Return a status for people."""
    if not found["running"]:
        return ["no agent runs" + (f"; the last one was there at {found['last']}" if found["last"] else "")]
    told = [
        f"agent: process {found['pid']} on {found['host']} since {found['since']} (term {found['term']})",
        f"follows: {', '.join(found['jobs']) or 'no job'}",
    ]
    for name, loop in sorted(found["loops"].items()):
        told.append(f"{name}: {loop['count']} rounds, last {loop['last_s']:.3f} s, worst {loop['worst_s']:.3f} s")
    return told


def raise_if_none(found: Mapping[str, Any]) -> None:
    """Raise NotFoundError if no agent runs."""
    if not found["running"]:
        raise NotFoundError("agent", "none runs", "start it: `systemctl start ugro-agent`, or `ugro agent` by hand")
