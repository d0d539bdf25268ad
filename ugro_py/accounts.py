"""Roles, quotas, usage and the audit trail for the verbs: from the agent, or from the caller's own store."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from ugro_py.api.client import connect


def listed() -> list[dict[str, Any]]:
    """Return users and groups that have a role or quotas, as JSON values."""
    client = connect(reading=True)
    if client is not None:
        return list(client.get("/v1/users"))
    from ugro_py.state import Store

    with Store.open() as store:
        return [row.to_json() for row in store.accounts()]


def change(kind: str, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Set role and quotas of a `user` or `group`; noted in the audit trail.

    Raises:
        RightsError: the caller is no admin.
        UsageError: a value cannot be used.
    """
    client = connect()
    if client is not None:
        return dict(client.put(f"/v1/{kind}s/{quote(name, safe='')}", values))
    from ugro_py.audit import audited_here
    from ugro_py.state import Store

    with Store.open() as store, audited_here(store, "users set", f"{kind} {name}", **values):
        return store.set_account(kind, name, **values).to_json()


def used(since: str) -> dict[str, Any]:
    """Return GPU hours by user, group and job (see `ugro_py.usage.report`).

    Raises:
        UsageError: `since` is no time.
    """
    client = connect(reading=True)
    if client is not None:
        return dict(client.get("/v1/usage", since=since))
    from ugro_py import events, usage
    from ugro_py.state import Store

    start = events.since(since)
    with Store.open() as store:
        return usage.report(store, start, datetime.now(UTC))


def asked(limit: int, user: str | None) -> list[dict[str, Any]]:
    """Return the newest `limit` lines of the audit trail, of one user or (admins) of all.

    Raises:
        RightsError: the caller is no admin and asks for others.
    """
    client = connect(reading=True)
    if client is not None:
        return list(client.get("/v1/audit", limit=limit, user=user))
    from ugro_py import usage
    from ugro_py.state import Store

    with Store.open() as store:
        return [usage.audit_line(row) for row in store.audit(limit, user)]
