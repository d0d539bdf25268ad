"""The queue in the store: what waits, and changes of its order."""

from __future__ import annotations

from ugro_py.state._base import Part


class Queue(Part):
    """The queue in the store: what waits, and changes of its order."""
