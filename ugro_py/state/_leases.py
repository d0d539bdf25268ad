"""Leases in the store: which process acts for the cluster."""

from __future__ import annotations

from ugro_py.state._base import Part


class Leases(Part):
    """Leases in the store: which process acts for the cluster."""
