"""A number of a rank's newest line of metrics as people read it: NaN is said, and what was never told is "-"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ugro_py.display import number
from ugro_py.pace import finite


def figure(line: Mapping[str, Any], key: str) -> str:
    """Return a number of a line of metrics; "NaN" for one that the script told as NaN or infinite."""
    names = line.get("nonfinite")
    if line.get(key) is None and isinstance(names, list) and key in names:
        return "NaN"
    return number(finite(line.get(key)))
