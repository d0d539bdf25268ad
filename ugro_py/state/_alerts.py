"""Alerts in the store: what was told of, and when it was over."""

from __future__ import annotations

from ugro_py.state._base import Part


class Alerts(Part):
    """Alerts in the store: what was told of, and when it was over."""
