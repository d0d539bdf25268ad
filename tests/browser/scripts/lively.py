# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A torchrun program for people to look at: `lively.py [MODE]` prints and measures until it is stopped.

What it prints and measures holds what an attacker would: markup, control sequences, a name of a column that is none.
"""

import json
import math
import os
import sys
import time

RANK, WORLD = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
HOSTILE = (
    "<img src=x onerror=alert('log')><script>alert('log')</script></script>\n"
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b]8;;http://x.example\x07link\n"
    "carriage\rreturn\r\n"
    "right\u202eto left\u2066 isolate\n"
    "nul\x00 bell\x07 \xff\xfe\n"
    "&lt;b&gt; &amp; 'quotes' \"double\" {{ 7 * 7 }} {% raw %}\n"
)


def write(line):
    with open(os.environ["UGRO_METRICS_FILE"], "a", encoding="utf-8") as file:
        file.write(line + "\n")


def main(mode):
    print(f"rank {RANK} of {WORLD} begins", flush=True)
    if RANK == 0:
        sys.stdout.buffer.write(HOSTILE.encode("utf-8") + b"not utf-8: \xff\xfe\n")
        sys.stdout.flush()
        write("not json at all")
        write('{"step": 1, "training_loss": NaN, "learning_rate": Infinity}')
    if mode == "long" and RANK == 0:
        sys.stdout.write("x" * 10_000_000 + " the end of the long line\n")
        print("after the long line", flush=True)
    step = 0
    while mode != "short" or step < 5:
        step += 1
        loss = 2 + 6 * math.exp(-step / 40) + 0.05 * math.sin(step)
        line = {
            "step": step, "total_steps": 5000, "training_loss": loss, "learning_rate": 3e-4,
            "throughput_tokens_sec": 900 + RANK, "gradient_norm": 1 + 1 / step, "gpu_util": 80 + RANK,
            "gpu_mem_used_gb": 3.5, "<img src=x onerror=alert('metric')>": step,
        }  # fmt: skip
        if mode == "short":
            line["huge"] = 1.5e308 * (-1) ** step
            line |= {f"many_{number}": number for number in range(20)}  # more than a page draws unasked
        write(json.dumps(line))
        print(f"step {step} loss={loss:.4f}", flush=True)
        time.sleep(0.5)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
