"""Going on where an earlier run was: finding its checkpoint, and the state of the random generators."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoint
import torch
from errors import WrongInput
from ranks import Ranks


def find(args: argparse.Namespace, folder: Path, ranks: Ranks, say: Callable[[str], None]) -> dict[str, Any] | None:
    """Return the state to resume from, None to start from scratch; all ranks get the same one.

    Ranks other than 0 get it without the weights, which DDP sends.

    Args:
        args: the options; `resume`, else UGRO_RESUME_FROM, says where from. With UGRO_RESUME_REQUIRED=1 a person
            named the latter, as the former always is.
        folder: where this run keeps its checkpoints.
        say: prints a line once, on rank 0.

    Raises:
        WrongInput: an explicitly named checkpoint cannot be used, or is of another model.
    """
    wanted = args.resume or os.environ.get("UGRO_RESUME_FROM")
    if not wanted:
        return None
    explicit = bool(args.resume) or os.environ.get("UGRO_RESUME_REQUIRED") == "1"
    loaded: dict[str, Any] = {}

    def load() -> str | None:
        path, skipped = checkpoint.find(wanted, folder, explicit=explicit)
        for reason in skipped:
            print(f"checkpoint skipped: {reason}", file=sys.stderr, flush=True)
        if path is not None:
            loaded.update(checkpoint.load(path))
            name = loaded["args"]["model_name"]
            if name != args.model_name:
                raise WrongInput(
                    f"checkpoint {path} holds model {name!r}, asked for was {args.model_name!r}; "
                    f"give --model-name {name}"
                )
        return str(path) if path else None

    path = ranks.main_does(load)
    if path is None:
        say("no checkpoint to resume from: starting from scratch")
        return None
    weights = loaded.pop("model", None)
    saved = {**ranks.state_from_main(loaded), "model": weights}
    say(f"resuming from {path}, step {saved['position']['step']}")
    return saved


def random_state(device: torch.device) -> dict[str, torch.Tensor | None]:
    """Return the state of the random generators of this rank."""
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_random_state(state: dict[str, torch.Tensor | None], device: torch.device) -> None:
    """Restore what `random_state` returned."""
    assert state["cpu"] is not None
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)
