"""Learns a line with all others, a small checkpoint each fifth step. SIGTERM: one more step, and exit 143.

The same steps give the same losses on every run with as many ranks, and each depends on all before it: on the weights
and on their momentum. Arguments: the steps, and the pause after each in seconds.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

stop = False


def ask(*_: object) -> None:
    global stop
    stop = True


def save(step: int) -> None:
    path = Path(os.environ["UGRO_CHECKPOINT_DIR"]) / f"step_{step:06d}.pt"
    torch.save({"step": step, "weights": weights, "momentum": momentum}, path)
    manifest = path.with_name(path.name + ".json")
    part = manifest.with_suffix(".part")
    part.write_text(json.dumps({"step": step, "complete": True, "size": path.stat().st_size}))
    part.rename(manifest)


signal.signal(signal.SIGTERM, ask)
dist.init_process_group("gloo")
rank, resume = dist.get_rank(), os.environ["UGRO_RESUME_FROM"]
saved = torch.load(resume, weights_only=True) if resume else {}
step = saved.get("step", 0)
weights, momentum = saved.get("weights", torch.zeros(8)), saved.get("momentum", torch.zeros(8))
wanted = os.environ.get("UGRO_WORLD_SIZE_WANTED", "-")
print(f"world {dist.get_world_size()} wanted {wanted} begins after step {step}", flush=True)
while step < int(sys.argv[1]):
    batch = torch.randn(16, 8, generator=torch.Generator().manual_seed(1000 * step + rank))
    wrong = batch @ (weights - torch.arange(8.0))
    # The mean over all ranks of the gradient and of the loss, and whether anybody was told to stop.
    shared = torch.cat([2 * wrong @ batch / 16, torch.stack([wrong.square().mean(), torch.tensor(float(stop))])])
    dist.all_reduce(shared)
    gradient, loss, told = shared[:8] / dist.get_world_size(), shared[8] / dist.get_world_size(), bool(shared[9])
    momentum = 0.9 * momentum + gradient
    weights = weights - 0.001 * momentum
    step += 1
    print(f"step {step} loss={loss.item():.6f}", flush=True)
    if rank == 0 and (step % 5 == 0 or told):
        save(step)
    if told:
        sys.exit(143)
    time.sleep(float(sys.argv[2]))
dist.destroy_process_group()
