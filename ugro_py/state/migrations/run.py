"""Runs the revisions in the caller's transaction, so that a killed migration leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection


def config(connection: Connection) -> Config:
    """Return an Alembic configuration that works on `connection`."""
    settings = Config()
    # "%" starts an interpolation in Alembic's settings.
    settings.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    settings.attributes["connection"] = connection
    return settings


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Bring the schema to `revision`; commits nothing itself."""
    command.upgrade(config(connection), revision)
