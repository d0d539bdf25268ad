# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Real hosts on one machine, for tests, Molecule, benchmarks and people (`make lab`)."""

from tests.lab.able import skip_reason
from tests.lab.host import Host
from tests.lab.lab import Lab, labs, sweep

__all__ = ["Host", "Lab", "labs", "skip_reason", "sweep"]
