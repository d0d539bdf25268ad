"""The numbers of a job as columns: every step of every rank, and what the nodes measured meanwhile."""

from __future__ import annotations

from ugro_py.series.job import Series, catch_up, open_job

__all__ = ["Series", "catch_up", "open_job"]
