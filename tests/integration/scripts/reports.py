# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A torchrun program that needs no torch: `reports.py FILE` prints and reports ten steps a second until FILE exists."""

import itertools
import json
import os
import sys
import time

for step in itertools.count(1):
    print(f"step {step} loss={1 / step:.4f}", flush=True)
    line = {
        "step": step, "total_steps": 100_000, "training_loss": 1 / step, "learning_rate": 3e-4, "gradient_norm": 0.5,
        "throughput_tokens_sec": 1000,
    }  # fmt: skip
    with open(os.environ["UGRO_METRICS_FILE"], "a") as file:
        file.write(json.dumps(line) + "\n")
    if step >= 150 and os.path.exists(sys.argv[1]):
        break
    time.sleep(0.1)
