"""What Alembic runs: by UGRO with an open transaction, by a developer with the database of UGRO_DB.

A developer makes a revision with `alembic revision --autogenerate --rev-id NNNN -m "..."` in the
checkout, and then sets `HEAD` in `ugro_py/state/database.py`.
"""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from sqlalchemy import Connection

from ugro_py.state import models_experiments as _experiments  # noqa: F401  adds its tables
from ugro_py.state._types import JsonObject, UtcDateTime
from ugro_py.state.models_web import web_sessions


def _render(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    # A revision stays what it was when the models move on: it must not import them.
    if kind == "type" and isinstance(item, JsonObject):
        return "sa.JSON()"
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UtcDateTime) else False


def _run(connection: Connection) -> None:
    # SQLite can change a table only by copying it (batch), and its DDL is transactional.
    context.configure(
        connection=connection,
        target_metadata=web_sessions.metadata,
        render_as_batch=True,
        render_item=_render,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    _run(given)
else:
    from ugro_py import paths
    from ugro_py.state.database import Database

    with Database(paths.database_url()).write() as opened:
        _run(opened)
