# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Uses a secret without telling it, long enough to be looked at; with `fail` rank 1 does so in the first attempt."""

import hashlib
import os
import sys
import time

value = os.environ["MY_SECRET"]
print("digest", hashlib.sha256(value.encode()).hexdigest(), sorted(name for name in os.environ if "SECRET" in name))
sys.stdout.flush()
time.sleep(float(sys.argv[1]) if len(sys.argv) > 1 else 0.1)
if sys.argv[2:] == ["fail"] and os.environ["UGRO_ATTEMPT"] == "1":
    if os.environ["RANK"] == "1":
        raise RuntimeError("rank 1 has had enough")
    time.sleep(60)
