# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What findings are made of: severities, thresholds, and the form of a finding. Pure."""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing costs a node 3 ms
if TYPE_CHECKING:
    from typing import Any, Dict

OK, WARNING, CRITICAL = "ok", "warning", "critical"
ORDER = (OK, WARNING, CRITICAL)

# What counts as too much or too little. GB are 2**30 bytes.
DEFAULT_THRESHOLDS: Dict[str, float] = {
    "disk_free_gb_warning": 10.0,  # a few checkpoints of a small model
    "disk_free_gb_critical": 1.0,  # not even one
    "memory_available_gb_warning": 2.0,
    "memory_available_gb_critical": 0.5,  # importing torch alone takes most of this
    "temperature_c_warning": 85.0,  # where consumer GPUs begin to slow down
    "temperature_c_critical": 95.0,  # where they are about to switch off
    "ecc_corrected_warning": 1000.0,  # corrected errors since the driver was loaded
    "xid_hours": 24.0,  # an Xid error that is older is no finding any more
    "load_per_cpu_warning": 4.0,  # 5-minute load average per CPU
    "clock_skew_s_critical": 2.0,  # timestamps of a run come from several nodes; more, and their order is wrong
    "latency_ms_warning": 500.0,  # a LAN takes about 1 ms; beyond this every all-reduce is slow
}


def finding(check: str, severity: str, text: str, remedy: str = "", value: Any = None) -> Dict[str, Any]:
    """Return a finding as JSON-able data."""
    return {"check": check, "severity": severity, "text": text, "remedy": remedy, "value": value}


def above(value: float, warning: float, critical: float) -> str:
    """Return how bad a value is that should be low."""
    return CRITICAL if value >= critical else WARNING if value >= warning else OK


def below(value: float, warning: float, critical: float) -> str:
    """Return how bad a value is that should be high."""
    return CRITICAL if value < critical else WARNING if value < warning else OK
