# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""NVIDIA's Xid errors: what a line of the kernel log says, what each number means, and what to do. Pure functions."""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing costs a node 3 ms
if TYPE_CHECKING:
    from typing import Any, Dict, Iterable, List, Mapping, Optional

_MARK = "NVRM: Xid ("

_APPLICATION = "look at the job that ran there: its own code is the usual cause"
_RESET = "stop its jobs and reboot %s; replace the card if it comes back"
_CARD = "reboot %s, and check the card's power, seat and riser"

# number -> (severity, what it means, what to do); `%s` is the node. After NVIDIA's list of Xid errors.
KNOWN = {
    13: ("warning", "graphics engine exception", _APPLICATION),
    31: ("warning", "memory page fault", _APPLICATION),
    32: ("warning", "corrupted push buffer", _RESET),
    43: ("warning", "a program on it was stopped", _APPLICATION),
    45: ("ok", "clean-up after a program that ended", ""),
    48: ("critical", "double bit ECC error", _RESET),
    61: ("critical", "micro-controller breakpoint", _RESET),
    62: ("critical", "micro-controller halt", _RESET),
    63: ("warning", "a row of memory is to be remapped", "reboot %s when no job runs there"),
    64: ("critical", "a row of memory could not be remapped", _RESET),
    69: ("warning", "graphics engine class error", _APPLICATION),
    74: ("critical", "NVLink error", "check the NVLink bridge, then reboot %s"),
    79: ("critical", "fell off the bus", _CARD),
    92: ("warning", "many single bit ECC errors", "watch whether they grow"),
    94: ("warning", "contained ECC error", "restart the job; reboot %s when no job runs there"),
    95: ("critical", "uncontained ECC error", _RESET),
    109: ("warning", "context switch timed out", _APPLICATION),
    110: ("critical", "security fault", _RESET),
    119: ("critical", "GSP firmware does not answer", _RESET),
    120: ("critical", "GSP firmware error", _RESET),
    140: ("critical", "unrecovered ECC error", _RESET),
    143: ("critical", "initialisation failed", _CARD),
    154: ("warning", "recovery action needed", "read `dmesg` on %s"),
}
_UNKNOWN = ("warning", "not in UGRO's list", "look it up in NVIDIA's list of Xid errors")


def parse(line: str) -> Optional[Dict[str, Any]]:
    """Return ``{code, pci, text}`` of a kernel message that reports an Xid, else None.

    "NVRM: Xid (PCI:0000:01:00): 79, pid=1234, name=python, GPU has fallen off the bus." is the usual form; ``pci`` is
    the address without its function ("0000:01:00").
    """
    start = line.find(_MARK)
    if start < 0:
        return None
    where, closed, rest = line[start + len(_MARK) :].partition("):")
    number = rest.strip().partition(",")[0].strip()
    if not closed or not (number.isascii() and number.isdigit()):
        return None
    return {"code": int(number), "pci": _address(where), "text": line[start:].strip()[:300]}


def _address(where: str) -> str:
    return pci_key(where[4:] if where.startswith("PCI:") else where)


def pci_key(address: Optional[str]) -> str:
    """Return a PCI address in one form, "0000:01:00", however many digits and whether a function it had."""
    parts = (address or "").strip().lower().partition(".")[0].split(":")
    if len(parts) == 2:
        parts.insert(0, "0")
    try:
        return "%04x:%02x:%02x" % tuple(int(part, 16) for part in parts[-3:])
    except (ValueError, TypeError):
        return (address or "").strip().lower()


def meaning(code: int) -> Any:
    """Return ``(severity, what it means, what to do)`` of an Xid number."""
    return KNOWN.get(code, _UNKNOWN)


def newest(found: Iterable[Mapping[str, Any]], since: float) -> List[Dict[str, Any]]:
    """Return one entry for each number and GPU, its newest, with ``count``; those before `since` are left out.

    Args:
        found: ``{at, code, pci, text}``, as `kernel_log.KernelLog.read` gives them.
        since: Unix time of when it was last said that all is well.
    """
    last: Dict[Any, Dict[str, Any]] = {}
    for item in found:
        if item["at"] < since:
            continue
        key = (item["pci"], item["code"])
        count = last[key]["count"] if key in last else 0
        if key not in last or item["at"] >= last[key]["at"]:
            last[key] = dict(item)
        last[key]["count"] = count + 1
    return [last[key] for key in sorted(last)]
