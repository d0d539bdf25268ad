"""How the weights change: optimizer, learning rate over time, and the type numbers are computed in."""

from __future__ import annotations

import math

import torch


def adamw(model: torch.nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """Return AdamW that decays matrices only, not norms and biases."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.95))


def schedule(
    optimizer: torch.optim.Optimizer, warmup_steps: int, total_steps: int, done: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Return the schedule of the learning rate, after `done` steps."""

    def factor(step: int) -> float:
        """Warm up linearly, then fall along a cosine to a tenth of the peak learning rate."""
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
        return 0.1 + 0.45 * (1 + math.cos(math.pi * progress))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor, last_epoch=done - 1)


def amp_type(wanted: str, device: torch.device) -> torch.dtype | None:
    """Return the type to compute in, None for float32. `auto`: bf16 or fp16 on a GPU, off on a CPU."""
    if wanted == "auto":
        wanted = "off" if device.type == "cpu" else "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}[wanted]
