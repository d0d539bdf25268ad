"""The state store: `Store` and the rows it hands out."""

from __future__ import annotations

from ugro_py.state.rows import AttemptRow, Controller, EventRow, JobRow, NodeRow, RankRow
from ugro_py.state.store import Store

__all__ = ["AttemptRow", "Controller", "EventRow", "JobRow", "NodeRow", "RankRow", "Store"]
