"""What of the open alerts is due to be told now: once, again after hours, when over; not while it flaps. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from ugro_py.alerts.rules import Rule
from ugro_py.state.rows import AlertRow

# A condition that began so often in this time is told of only once it has lasted for a while.
FLAP_WINDOW = timedelta(minutes=30)
FLAP_TIMES = 3
FLAP_HOLD = timedelta(minutes=5)


@dataclass(frozen=True)
class Notice:
    """What is told of an alert. `kind` is new, again or over."""

    alert: AlertRow
    kind: str
    title: str
    body: str


def of_the_moment(alert: AlertRow) -> bool:
    """Return whether an alert is over once it was told of: nothing will say that it is."""
    return alert.key.startswith("once:")


def due(alert: AlertRow, rule: Rule, begun: int, now: datetime) -> Notice | None:
    """Return what is to be told of an alert now, if anything.

    Args:
        alert: one that lasts, or whose end was not told yet.
        rule: the one for it.
        begun: how often its condition has begun in the last `FLAP_WINDOW`, this time included.
        now: aware.
    """
    if rule.is_quiet(now.astimezone()):
        return None
    if alert.resolved_at is not None:
        return _notice(alert, "over", now) if rule.recovery else None
    if alert.notified_at is None:
        flapping = begun >= FLAP_TIMES and not of_the_moment(alert)
        if flapping and now - alert.first_at < FLAP_HOLD:
            return None
        return _notice(alert, "new", now, flapping)
    if rule.repeat_h and now - alert.notified_at >= timedelta(hours=rule.repeat_h):
        return _notice(alert, "again", now)
    return None


def is_done(alert: AlertRow, rule: Rule | None) -> bool:
    """Return whether nothing more will be told of an alert whose condition is over."""
    return alert.resolved_at is not None and (rule is None or not rule.recovery)


def _notice(alert: AlertRow, kind: str, now: datetime, flapping: bool = False) -> Notice:
    subject = alert.node or alert.job or "cluster"
    what = alert.rule.replace("_", " ")
    words = {"new": alert.severity.upper(), "again": f"STILL {alert.severity.upper()}", "over": "OVER"}
    lines = [alert.text]
    if alert.node:
        lines.append(f"node: {alert.node}")
    if alert.job:
        lines += [f"job: {alert.job}", f"more: ugro explain {alert.job}"]
    lines.append(f"began: {alert.first_at:%Y-%m-%d %H:%M:%S} UTC")
    if alert.count > 1:
        lines.append(f"reported {alert.count} times, last {alert.last_at:%Y-%m-%d %H:%M:%S} UTC")
    if alert.resolved_at is not None:
        lines.append(f"over: {alert.resolved_at:%Y-%m-%d %H:%M:%S} UTC")
    if flapping:
        lines.append(f"it comes and goes: told only when it lasts {FLAP_HOLD.seconds // 60} minutes")
    return Notice(alert, kind, f"[ugro] {words[kind]} {subject}: {what}", "\n".join(lines))
