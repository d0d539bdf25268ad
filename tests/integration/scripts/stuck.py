# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Rank 1 never comes to the collective that the others wait in."""

import signal

import torch
import torch.distributed as dist

dist.init_process_group("gloo")
print("in the group", flush=True)
if dist.get_rank() == 1:
    signal.pause()
dist.all_reduce(torch.ones(1))
