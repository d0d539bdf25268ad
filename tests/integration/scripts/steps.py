"""Counts steps with all others: an all-reduce each, a small checkpoint each fifth. SIGTERM: one more, and exit 143.

Arguments: the steps, and the pause after each in seconds.
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
    torch.save({"step": step}, path)
    manifest = path.with_name(path.name + ".json")
    part = manifest.with_suffix(".part")
    part.write_text(json.dumps({"step": step, "complete": True, "size": path.stat().st_size}))
    part.rename(manifest)


signal.signal(signal.SIGTERM, ask)
dist.init_process_group("gloo")
rank, resume = dist.get_rank(), os.environ["UGRO_RESUME_FROM"]
step = torch.load(resume, weights_only=True)["step"] if resume else 0
wanted = os.environ.get("UGRO_WORLD_SIZE_WANTED", "-")
print(f"world {dist.get_world_size()} wanted {wanted} begins after step {step}", flush=True)
while step < int(sys.argv[1]):
    told = torch.tensor([float(stop)])
    dist.all_reduce(told)
    step += 1
    print(f"step {step} loss={5 - step / 1000:.3f}", flush=True)
    if rank == 0 and (step % 5 == 0 or told.item()):
        save(step)
    if told.item():
        sys.exit(143)
    time.sleep(float(sys.argv[2]))
dist.destroy_process_group()
