"""Health of nodes in the store: states, history, drains."""

from __future__ import annotations

from ugro_py.state._base import Part


class Health(Part):
    """Health of nodes in the store: states, history, drains."""
