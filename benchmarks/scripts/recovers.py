"""Trains a small model for ever on all ranks, with a checkpoint each fifth step; goes on from the newest one."""

import os
import socket
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
rank = dist.get_rank()
folder = Path(os.environ["UGRO_CHECKPOINT_DIR"])
folder.mkdir(parents=True, exist_ok=True)
torch.manual_seed(1)
model = DistributedDataParallel(
    torch.nn.Sequential(torch.nn.Linear(256, 256), torch.nn.ReLU(), torch.nn.Linear(256, 8))
)
optimizer = torch.optim.AdamW(model.parameters())
resume = os.environ.get("UGRO_RESUME_FROM") or str(max(folder.glob("step_*.pt"), default="", key=str))
step = 0
if resume and rank == 0:
    state = torch.load(resume, weights_only=True)
    model.module.load_state_dict(state["model"])
    step = state["step"]
shared = torch.tensor([step])
dist.broadcast(shared, 0)
step = int(shared.item())
while True:
    loss = model(torch.randn(32, 256)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    step += 1
    print(f"world_step {step} rank {rank} pid {os.getpid()} on {socket.gethostname()} at {time.time():.3f}", flush=True)
    print(f"step {step} loss={loss.item():.4f}", flush=True)
    if rank == 0 and step % 5 == 0:
        path = folder / f"step_{step:06d}.pt"
        torch.save({"step": step, "model": model.module.state_dict()}, path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)
        size = path.stat().st_size
        part = folder / f"{path.name}.part"
        part.write_text(f'{{"step": {step}, "complete": true, "size": {size}}}')
        part.rename(folder / f"{path.name}.json")
        for old in sorted(folder.glob("step_*.pt"))[:-3]:
            (folder / f"{old.name}.json").unlink(missing_ok=True)
            old.unlink(missing_ok=True)
    time.sleep(0.1)
