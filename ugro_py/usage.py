"""What users and groups used, beside their quotas; and lines of the audit trail."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ugro_py.state import Store
    from ugro_py.state._accounts import AuditRow, UsageRow

WEEK = timedelta(days=7)
_TIME = "%Y-%m-%dT%H:%M:%SZ"


def report(store: Store, since: datetime, now: datetime) -> dict[str, Any]:
    """Return GPU hours between two times by user, group and job, as JSON values.

    Of users and groups also: `gpus`, how many they hold now; `gpu_hours_week`, what they used in the last 7 days; and
    `quota`, their limits (None: no limit).
    """
    rows = store.usage(since, now)
    week = rows if now - since == WEEK else store.usage(now - WEEK, now)
    accounts = {(row.kind, row.name): row.to_json() for row in store.accounts()}
    users, groups = _totals((row.user, row) for row in rows), _totals((row.group, row) for row in rows)
    week_of = {"user": _totals((row.user, row) for row in week), "group": _totals((row.group, row) for row in week)}

    def entries(kind: str, totals: dict[str, tuple[float, int, int]]) -> list[dict[str, Any]]:
        whole = sum(hours for hours, _, _ in totals.values())
        found = []
        for name in totals.keys() | {n for k, n in accounts if k == kind}:
            hours, gpus, jobs = totals.get(name, (0.0, 0, 0))
            quota = accounts.get((kind, name), {})
            found.append(
                {
                    kind: name, "gpu_hours": round(hours, 4), "share": round(hours / whole, 4) if whole else 0.0,
                    "jobs": jobs, "gpus": gpus, "gpu_hours_week": round(week_of[kind].get(name, (0.0,))[0], 4),
                    "quota": {key: quota.get(key) for key in ("max_gpus", "max_queued", "gpu_hours_week")},
                }
            )  # fmt: skip
        return sorted(found, key=lambda entry: (-entry["gpu_hours"], entry[kind]))

    return {
        "since": since.strftime(_TIME),
        "until": now.strftime(_TIME),
        "users": entries("user", users),
        "groups": entries("group", groups),
        "jobs": [
            {"job": row.job, "user": row.user, "group": row.group, "gpu_hours": round(row.gpu_hours, 4),
             "gpus": row.gpus}
            for row in rows
        ],
    }  # fmt: skip


def _totals(rows: Iterable[tuple[str | None, UsageRow]]) -> dict[str, tuple[float, int, int]]:
    """Return name -> (GPU hours, GPUs held now, jobs)."""
    found: dict[str, tuple[float, int, int]] = {}
    for name, row in rows:
        if name is not None:
            hours, gpus, jobs = found.get(name, (0.0, 0, 0))
            found[name] = (hours + row.gpu_hours, gpus + row.gpus, jobs + 1)
    return found


def audit_line(row: AuditRow) -> dict[str, Any]:
    """Return a line of the audit trail as JSON values."""
    return {
        "at": row.at.strftime(_TIME), "user": row.user, "uid": row.uid, "verb": row.verb, "target": row.target,
        "outcome": row.outcome, "data": dict(row.data) if row.data is not None else None,
        "count": row.count,
    }  # fmt: skip
