"""Which rank the others wait for, and why."""

from __future__ import annotations

from ugro_py.stragglers.slowest import Report, Slowest, report, told

__all__ = ["Report", "Slowest", "report", "told"]
