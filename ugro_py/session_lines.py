"""The lines that are exchanged with a node's session program: one reading of them for threads and for asyncio.

The program is `plugins/module_utils/session.py`; `ugro_py.runtime.BOOT` starts it.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Literal

from ugro_py import runtime


def greeting(line: bytes) -> Literal["ready", "send", "noise"]:
    """Return what a line before the program runs means: it is there, it wants `code()`, or a login shell's banner."""
    if line.startswith(b"UGRO-READY"):
        return "ready"
    return "send" if line.startswith(b"UGRO-SEND") else "noise"


def code() -> bytes:
    """Return the line that brings the node code to a node that does not have this version of it."""
    return base64.b64encode(runtime.archive()) + b"\n"


def request(number: int, method: str, params: dict[str, Any]) -> bytes:
    """Return the line that asks for `do_<method>` on the node."""
    return json.dumps({"id": number, "method": method, "params": params}).encode() + b"\n"


def message(line: bytes) -> dict[str, Any] | None:
    """Return an answer or a push of the node; None for anything else that was printed to our channel there."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and ("push" in found or "id" in found) else None


def round_trip(hello: dict[str, Any], before: float, after: float) -> tuple[float, float]:
    """Return (ms the answer to `hello` took, seconds the node's clock is ahead), from Unix times of this machine."""
    return round(1000 * (after - before), 2), round(hello["t"] - (before + after) / 2, 4)
