"""Which alerts are told to whom, as the inventory says (`ugro_alerts`). Pure but for reading addresses from files."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ugro_py.alerts.meaning import TOPICS
from ugro_py.cluster import Settings
from ugro_py.errors import InventoryError
from ugro_py.state._alerts import SEVERITIES, Change
from ugro_py.state.rows import AlertRow

_KEYS = frozenset({"match", "kinds", "min_severity", "node", "job", "user", "urls", "repeat_h", "quiet", "recovery"})
_IN_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://\S+")
# Of these, what follows the scheme is a host and no secret.
_SHOWN = frozenset({"mailto", "mailtos", "json", "jsons", "xml", "xmls", "form", "forms", "ntfy", "ntfys", "syslog"})


@dataclass(frozen=True)
class Target:
    """An Apprise address; only `shown` may be logged, the address itself often holds a password."""

    url: str = field(repr=False)
    shown: str

    @property
    def secrets(self) -> list[str]:
        """The parts of the address that may be secret and must not be told on."""
        scheme, _, rest = self.url.partition("://")
        if scheme in _SHOWN:
            rest = rest.replace(_host(self.url), "", 1)
        parts = [part for part in re.split(r"[:/@?&=]", rest) if len(part) >= 4]
        return sorted({*parts, *map(unquote, parts)}, key=len, reverse=True)


@dataclass(frozen=True)
class Rule:
    """One rule: what it matches, who is told, how often.

    Attributes:
        kinds: topics or kinds of events, with wildcards; empty: all of at least `min_severity`.
        repeat_h: an alert that lasts is told again after so many hours; 0: never.
        quiet: from and until which local time nothing is told; what lasts until the end is told then.
        recovery: whether the end of an alert is told too.
    """

    kinds: tuple[str, ...] = ()
    min_severity: str = "info"
    node: str = "*"
    job: str = "*"
    user: str = "*"
    targets: tuple[Target, ...] = ()
    repeat_h: float = 24.0
    quiet: tuple[time, time] | None = None
    recovery: bool = True

    def matches(self, topic: str, severity: str, node: str | None, job: str | None, user: str | None) -> bool:
        """Return whether the rule is for such an alert."""
        if self.kinds and not any(fnmatch.fnmatchcase(topic, kind) for kind in self.kinds):
            return False
        if SEVERITIES.index(severity) < SEVERITIES.index(self.min_severity):
            return False
        wanted = ((self.node, node), (self.job, job), (self.user, user))
        return all(pattern == "*" or fnmatch.fnmatchcase(value or "", pattern) for pattern, value in wanted)

    def is_quiet(self, now: datetime) -> bool:
        """Return whether nothing is told now; `now` is in local time."""
        if self.quiet is None:
            return False
        begin, end = self.quiet
        at = now.time().replace(tzinfo=None)
        return begin <= at < end if begin <= end else at >= begin or at < end


DEFAULT_RULES: tuple[Mapping[str, Any], ...] = (
    {
        "kinds": ["node_unreachable", "node_drained", "gpu_lost", "disk_low", "agent_took_over"],
        "min_severity": "warning",
    },
    {"kinds": ["job_failed"]},
    {"kinds": ["rank_failed", "attempt_failed"], "urls": []},  # the job is tried again, or fails: that is told
    {"min_severity": "error"},
)
"""What is told where the inventory names addresses and no rules."""


def targets(settings: Settings) -> tuple[Target, ...]:
    """Return every address that the inventory names, each once, in order.

    Raises:
        InventoryError: one cannot be read or is no address.
    """
    found = list(_targets(settings.alert_urls, "ugro_alerts.urls"))
    for rule in rules_of(settings):
        found += rule.targets
    return tuple(dict.fromkeys(found))


def rules_of(settings: Settings) -> tuple[Rule, ...]:
    """Return the rules in order; the first that matches an alert decides.

    Raises:
        InventoryError: a rule has an unknown key or a value that does not fit, or an address cannot be read.
    """
    shared = _targets(settings.alert_urls, "ugro_alerts.urls")
    given = settings.alert_rules or (DEFAULT_RULES if shared else ())
    return tuple(_rule(rule, f"ugro_alerts.rules[{number}]", shared) for number, rule in enumerate(given))


def rule_for(rules: Sequence[Rule], alert: AlertRow | Change, user: str | None) -> Rule | None:
    """Return the first rule for an alert; None: nobody is told, also where that rule names no address."""
    for rule in rules:
        if rule.matches(alert.rule, alert.severity, alert.node, alert.job, user):
            return rule if rule.targets else None
    return None


def _rule(given: Mapping[str, Any], where: str, shared: tuple[Target, ...]) -> Rule:
    unknown = sorted({*given, *(given.get("match") or ())} - _KEYS)
    if unknown:
        raise InventoryError(where, f"has the unknown key {unknown[0]!r}", f"known: {', '.join(sorted(_KEYS))}")
    match = given.get("match", {})
    if not isinstance(match, Mapping):
        raise InventoryError(f"{where}.match", "is no mapping", "use {kinds: [job_failed], node: gpu1}, say")
    values = {**given, **match}
    kinds = values.get("kinds", ())
    kinds = (kinds,) if isinstance(kinds, str) else tuple(map(str, kinds))
    severity = values.get("min_severity", "info")
    if severity not in SEVERITIES:
        raise InventoryError(f"{where}.min_severity", f"{severity!r} is none", f"use {', '.join(SEVERITIES)}")
    for kind in kinds:
        if not re.fullmatch(r"[a-z0-9_*?]{1,40}", kind):
            raise InventoryError(f"{where}.kinds", f"{kind!r} is none", f"known: {', '.join(TOPICS)}")
    repeat = values.get("repeat_h", 24.0)
    if isinstance(repeat, bool) or not isinstance(repeat, int | float) or not 0 <= repeat < 1e5:
        raise InventoryError(f"{where}.repeat_h", f"{repeat!r} is no number of hours", "use 24, say; 0: never again")
    return Rule(
        kinds=kinds,
        min_severity=severity,
        node=str(values.get("node", "*")),
        job=str(values.get("job", "*")),
        user=str(values.get("user", "*")),
        targets=_targets(values["urls"], f"{where}.urls") if "urls" in values else shared,
        repeat_h=float(repeat),
        quiet=_quiet(values.get("quiet"), where),
        recovery=bool(values.get("recovery", True)),
    )


def _quiet(value: Any, where: str) -> tuple[time, time] | None:
    if value is None:
        return None
    try:
        begin, _, end = str(value).partition("-")
        return time.fromisoformat(begin.strip()), time.fromisoformat(end.strip())
    except ValueError as error:
        raise InventoryError(f"{where}.quiet", f"{value!r} is no span of time", 'use "22:00-07:00"') from error


def _targets(given: Any, where: str) -> tuple[Target, ...]:
    items = (given,) if isinstance(given, str | Mapping) else tuple(given)
    return tuple(_target(item, f"{where}[{number}]") for number, item in enumerate(items))


def _target(item: Any, where: str) -> Target:
    """Read an address: itself, or from a file or an environment variable, so that the inventory holds no password."""
    url = item
    if isinstance(item, Mapping):
        if len(item) != 1 or next(iter(item)) not in ("file", "env"):
            raise InventoryError(where, "is neither an address nor {file: PATH} nor {env: NAME}", "correct it")
        kind, name = next(iter(item.items()))
        url = _from_file(str(name), where) if kind == "file" else os.environ.get(str(name), "")
        if not url:
            raise InventoryError(where, f"{kind} {name} holds no address", "put one there")
    if not isinstance(url, str) or not _IN_ADDRESS.fullmatch(url.strip()):
        raise InventoryError(where, "is no address", "use one of Apprise's, as mailto://… or json://host/path")
    url = url.strip()
    scheme = url.partition("://")[0]
    shown = f"{scheme}://{_host(url)}" if scheme in _SHOWN else f"{scheme}://…"
    return Target(url, shown)


def _host(url: str) -> str:
    return url.partition("://")[2].partition("?")[0].partition("/")[0].rpartition("@")[2]


def _from_file(name: str, where: str) -> str:
    path = Path(name).expanduser()
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InventoryError(where, f"{path}: {error.strerror}", "make it readable for the agent") from error
