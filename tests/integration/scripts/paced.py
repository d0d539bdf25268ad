# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A gang whose work is a pause, so that it takes as long on any machine, and whose gradients are real.

Arguments: steps, seconds of work for a step (of all ranks together), MB of gradients, and if wanted a host that takes
half as long again. It tells its times as
docs/stragglers.md says. With fewer ranks each has more to do: the global batch stays the same.
"""

import json
import os
import socket
import sys
import time

import torch
import torch.distributed as dist

dist.init_process_group("gloo")
rank, steps = dist.get_rank(), int(sys.argv[1])
work_s = float(sys.argv[2]) / dist.get_world_size() * (1.5 if socket.gethostname() in sys.argv[4:] else 1)
gradients = torch.zeros(int(float(sys.argv[3]) * 250_000))
dist.all_reduce(gradients)
with open(os.environ["UGRO_METRICS_FILE"], "a", buffering=1) as file:
    for step in range(1, steps + 1):
        began, cpu = time.perf_counter(), time.process_time()
        time.sleep(work_s)
        worked = time.perf_counter()
        dist.all_reduce(gradients)
        ended = time.perf_counter()
        line = {
            "step": step,
            "training_loss": 1 / step,
            "step_time_s": ended - began,
            "data_time_s": 0.0,
            "wait_time_s": ended - worked,
            "cpu_time_s": time.process_time() - cpu,
            "gradient_bytes": gradients.nbytes,
        }
        file.write(json.dumps(line) + "\n")
print("done", flush=True)
dist.destroy_process_group()
