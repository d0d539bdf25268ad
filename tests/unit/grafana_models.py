# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Dashboards as Grafana's own models see them: grafana-foundation-sdk, made by Grafana Labs from Grafana's source."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import Enum
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

register_default_plugins()  # the options of each kind of panel, and its queries, have models of their own


def lost(board: dict[str, Any]) -> list[str]:
    """Return the places in a dashboard that the models do not know: read and written again, they are gone."""
    again = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(board)))
    return list(_lost(board, again, "$"))


def mistyped(board: dict[str, Any]) -> list[str]:
    """Return the places whose values are not of the type that the models declare; they do not look by themselves."""
    return list(_mistyped(Dashboard.from_json(board), Dashboard, "$"))


def _lost(before: Any, after: Any, where: str) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            yield from _lost(value, after.get(key, ...), f"{where}.{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, pair in enumerate(zip(before, after, strict=True)):
            yield from _lost(*pair, f"{where}[{number}]")
    elif before != after:
        yield where


def _mistyped(value: Any, hint: Any, where: str) -> Iterator[str]:
    choices = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    models = [choice for choice in choices if hasattr(choice, "from_json")]
    if isinstance(value, dict) and models:
        value = models[0].from_json(value)  # some are left as they were read
    if not any(_fits(value, choice) for choice in choices):
        yield where
    elif isinstance(value, list):
        inner = next((get_args(choice)[0] for choice in choices if get_origin(choice) is list), object)
        for number, item in enumerate(value):
            yield from _mistyped(item, inner, f"{where}[{number}]")
    elif type(value).__module__.startswith("grafana_foundation_sdk.models"):
        for name, inner in get_type_hints(type(value)).items():
            yield from _mistyped(getattr(value, name), inner, f"{where}.{name}")


def _fits(value: Any, choice: Any) -> bool:
    kind = get_origin(choice) or choice
    if kind is Literal:
        return value in get_args(choice)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return value in [member.value for member in kind]
    if getattr(kind, "_is_protocol", False):
        return True  # any query
    if kind is float:
        return type(value) in (int, float)
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))
