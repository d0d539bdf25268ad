"""Starts the agent: its log, its store, its loop."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ugro_py.agent.inventory import Inventory
from ugro_py.agent.process import run_agent
from ugro_py.state import Store

# What systemd's journal takes for the severity of a line (sd-daemon(3)).
_JOURNAL = {logging.ERROR: "<3>", logging.WARNING: "<4>", logging.INFO: "<6>"}


def main(
    inventory: str | None,
    *,
    standby: bool = False,
    listen: str | None = None,
    token_file: Path | None = None,
    tls: Mapping[str, Any] | None = None,
    dashboard: int = 0,
) -> None:
    """Be the agent until SIGTERM or SIGINT.

    Raises:
        InventoryError: the inventory cannot be used.
        StateError: the database cannot be used, or another agent acts.
        UsageError: the API cannot be opened as asked.
    """
    _log_to_stderr()
    door = None
    if listen is not None:
        from ugro_py.api.server import Listen

        door = Listen.parse(listen, token_file, **(tls or {}))
        door.check()  # else its part would fail again and again, and the socket with it
    with Store.open() as store:
        read = Inventory(inventory)
        gc.freeze()  # what was imported lives as long as the agent: no collection need look at it
        asyncio.run(run_agent(store, read, standby=standby, listen=door, dashboard=dashboard))


class _Format(logging.Formatter):
    """Lines for the journal where it listens, with the time where it does not."""

    def __init__(self) -> None:
        self._journal = "JOURNAL_STREAM" in os.environ
        super().__init__("%(message)s" if self._journal else "%(asctime)s %(levelname)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return _JOURNAL.get(record.levelno, "") + text if self._journal else text


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Format())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("ugro").setLevel(logging.INFO)
