"""Times as every verb prints them with `--json`, and as the HTTP API tells them: ISO 8601 in UTC, with a Z."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(at: datetime | None) -> str | None:
    """Return a time in whole seconds: "2026-01-20T12:05:30Z"; None for None."""
    return None if at is None else at.strftime("%Y-%m-%dT%H:%M:%SZ")


def exact(at: datetime) -> str:
    """Return the time of one of many things a second, with its fraction: "2026-01-20T12:05:30.250000Z"."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
