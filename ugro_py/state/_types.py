"""Types of columns: times that keep their zone, JSON whose damage does not spread from its row to all others."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC; SQLite forgets the zone, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class JsonObject(TypeDecorator[dict[str, Any]]):
    """A JSON object. What is none, or no JSON (SQLite takes any text for it), reads as an empty one."""

    impl = JSON
    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], dict[str, Any]]:
        """Return what makes a value of what the driver gave."""
        # Not `process_result_value`: that is called with the value, and to make it is what fails.
        loads = self.impl_instance.result_processor(dialect, coltype)

        def process(given: Any) -> dict[str, Any]:
            try:
                value = loads(given) if loads is not None else given
            except (ValueError, TypeError, RecursionError):
                return {}
            return value if isinstance(value, dict) else {}

        return process
