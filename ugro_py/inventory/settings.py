"""The variables of an inventory that say how the cluster is run: recovery, health, queue, alerts, accounts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.ugro.cluster.plugins.module_utils.health import DEFAULT_THRESHOLDS

from ugro_py.cluster import Settings
from ugro_py.inventory.keys import BadValue, integer, local_path, resolve, text, user
from ugro_py.inventory.reader import closest, invalid
from ugro_py.inventory.tree import Value, Vars

Check = Callable[[Any], Any]


def number(low: float, high: float) -> Check:
    """A number from `low` to `high`."""

    def check(data: Any) -> float:
        if isinstance(data, bool) or not isinstance(data, int | float):
            raise BadValue(f"must be a number, not {data!r:.60}")
        if not low <= data <= high:
            raise BadValue(f"must be from {low:g} to {high:g}, not {data}")
        return float(data)

    return check


def switch(data: Any) -> bool:
    """true or false."""
    if not isinstance(data, bool):
        raise BadValue(f"must be true or false, not {data!r:.60}")
    return data


def currency(data: Any) -> str:
    """A currency as it is shown behind a sum: `EUR`, say."""
    value = text(data)
    if len(value) > 8:
        raise BadValue(f"must be a short text like EUR, not {value!r:.60}")
    return value


def plain(data: Any) -> Any:
    """Lists and mappings of plain values, none of them a template."""
    if isinstance(data, Mapping):
        return {str(key): plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [plain(value) for value in data]
    return resolve(data, "")


def http_url(data: Any) -> str:
    """An address that begins with http:// or https:// and holds no password."""
    value = text(data)
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise BadValue(f"{value!r:.60} is no address") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or any(map(str.isspace, value)):
        raise BadValue(f"{value!r:.60} is no address", "write http://host:3100, say")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise BadValue("must be an address alone, without a password or a query", "a token goes into token_file")
    return value


def list_of(what: str, kind: type) -> Check:
    """A list whose members are of one kind."""

    def check(data: Any) -> tuple[Any, ...]:
        if not isinstance(data, list | tuple) or not all(isinstance(item, kind) for item in data):
            raise BadValue(f"must be a list of {what}")
        return tuple(plain(data))

    return check


# variable -> key in it -> (field of Settings, check)
SETTINGS: dict[str, dict[str, tuple[str, Check]]] = {
    "ugro_recovery": {
        "retry": ("retry", integer(0, 1000)),
        "backoff_s": ("retry_backoff_s", number(0, 86_400)),
        "grace_s": ("grace_s", number(0, 3600)),
        "keep_checkpoints": ("keep_checkpoints", integer(1, 1_000_000)),
    },
    "ugro_logs": {
        "limit_gb": ("log_limit_gb", number(0.001, 1_000_000)),
    },
    "ugro_health": {
        "interval_s": ("health_interval_s", number(1, 3600)),
        "retention_days": ("health_retention_days", number(0.01, 3650)),
        "thresholds": ("health_thresholds", plain),
    },
    "ugro_queue": {
        "fair_share_half_life_h": ("fair_share_half_life_h", number(0.01, 100_000)),
        "preemption": ("preemption", switch),
    },
    "ugro_users": {
        "max_priority": ("max_priority", integer(0, 100)),
        "audit_days": ("audit_days", number(0.01, 36_500)),
    },
    "ugro_energy": {
        "price_per_kwh": ("energy_price_per_kwh", number(0, 1000)),
        "currency": ("energy_currency", currency),
    },
    "ugro_loki": {
        "url": ("loki_url", http_url),
        "tenant": ("loki_tenant", text),
        "token_file": ("loki_token_file", local_path),
        "user": ("loki_user", text),
        "ca_file": ("loki_ca_file", local_path),
    },
    "ugro_alerts": {
        "urls": ("alert_urls", list_of("addresses or mappings", (str, dict))),  # type: ignore[arg-type]
        "rules": ("alert_rules", list_of("mappings", dict)),
    },
}
ACCOUNTS = "ugro_accounts"
SETTING_KEYS = (*SETTINGS, ACCOUNTS)


def settings_of(shared: Vars, read: Callable[[str, Value, Check], Any]) -> Settings:
    """Return the settings among the variables of the cluster; `read` resolves and checks one value.

    Raises:
        InventoryError: a key is unknown or a value does not fit; the text names file and line.
    """
    found: dict[str, Any] = {}
    for name, keys in SETTINGS.items():
        for key, part in _parts(shared, name, list(keys)).items():
            field, check = keys[key]
            if key == "thresholds":
                limits = list(DEFAULT_THRESHOLDS)
                found[field] = {
                    limit: read(f"{name}.{key}.{limit}", value, number(0, 1e12))
                    for limit, value in _known(part.parts(), f"{name}.{key}", limits).items()
                }
            else:
                found[field] = read(f"{name}.{key}", part, check)
    if ACCOUNTS in shared:
        found["accounts"] = {
            read(ACCOUNTS, _name(here, value), user): read(f"{ACCOUNTS}.{here}", value, user)
            for here, value in shared[ACCOUNTS].parts().items()
        }
    return Settings(**found)


def _name(name: str, value: Value) -> Value:
    return Value(value.where, lambda: name, dict)


def _parts(shared: Vars, name: str, keys: list[str]) -> Vars:
    return _known(shared[name].parts(), name, keys) if name in shared else {}


def _known(parts: Vars, name: str, keys: list[str]) -> Vars:
    for key, part in parts.items():
        if key not in keys:
            raise invalid(part.where, f"{name} has the unknown key {key!r}", closest(key, keys))
    return parts
