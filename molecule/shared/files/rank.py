# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A torchrun program for the scenarios of jobs: FAIL=<rank> fails there, NAP=<seconds> takes its time."""

import os
import sys
import time
from pathlib import Path

rank = os.environ["RANK"]
print(f"rank {rank} of {os.environ['WORLD_SIZE']} loss=1.5", flush=True)
Path(os.environ["UGRO_CHECKPOINT_DIR"], f"rank_{rank}.pt").write_text("weights")
time.sleep(float(os.environ.get("NAP", "0")))
if os.environ.get("FAIL") == rank:
    sys.exit(f"rank {rank} gives up")
