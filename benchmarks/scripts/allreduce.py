"""A program for torchrun: join the gang, do one all-reduce, and have rank 0 say when it was done (Unix time)."""

import time

import torch
import torch.distributed as dist

dist.init_process_group("gloo")
value = torch.ones(1)
dist.all_reduce(value)
if dist.get_rank() == 0:
    print(f"first_allreduce {time.time()}", flush=True)
assert value.item() == dist.get_world_size()
dist.destroy_process_group()
