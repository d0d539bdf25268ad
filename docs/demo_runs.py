"""The jobs of the made-up cluster: who ran what, how it went, and what they wrote about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from docs.demo_curves import Run

_HOUR, _DAY = 3600.0, 86400.0


@dataclass(frozen=True)
class Past:
    """A job that began `ago_s` seconds ago."""

    name: str
    user: str
    ago_s: float
    curve: Run
    request: dict[str, Any]
    status: str = "completed"
    reason: str = ""
    exit_code: int | None = 0
    nodes: int = 3
    tags: tuple[str, ...] = ()
    note: str = ""
    digest: str = "9f2c51e8"
    torch: str = "2.9.1"
    events: tuple[tuple[str, str, str], ...] = field(default=())


def _asks(model: str, dataset: str = "wikitext", **more: Any) -> dict[str, Any]:
    words = more.pop("args", [])
    defaults: dict[str, Any] = {"epochs": 3, "batch_size": 8, "gradient_accumulation": 4, "retry": 1}
    return {"model": model, "dataset": dataset, **defaults, **more, "args": words}


_CHECKPOINT = ("checkpoint", "info", "checkpoint step_4000.pt is in the central store")

RUNS = (
    Past("llama-110m-v1", "ob", 17 * _DAY, Run(9000, 1.42, 2.71, 6e-4, 1, spike=5200), _asks("llama-110m"),
         tags=("baseline",), note="First full run. The spike at step 5,200 is a bad shard, see data issue 12."),
    Past("tiny-smoke", "ollie", 16.4 * _DAY, Run(600, 0.21, 3.6, 1e-3, 2), _asks("tiny-llama", "python-docs"), nodes=1),
    Past("sweep-lr-1e-4", "ob", 15 * _DAY, Run(3000, 1.4, 3.24, 1e-4, 3), _asks("llama-110m", args=["--lr", "1e-4"]),
         tags=("sweep",)),
    Past("sweep-lr-3e-4", "ob", 14.8 * _DAY, Run(3000, 1.4, 3.02, 3e-4, 4), _asks("llama-110m", args=["--lr", "3e-4"]),
         tags=("sweep", "good")),
    Past("sweep-lr-6e-4", "ob", 14.6 * _DAY, Run(3000, 1.41, 2.98, 6e-4, 5), _asks("llama-110m", args=["--lr", "6e-4"]),
         tags=("sweep",)),
    Past("sweep-lr-3e-3", "ob", 14.4 * _DAY, Run(3000, 1.4, 3.4, 3e-3, 6, done=1310, diverges=True),
         _asks("llama-110m", args=["--lr", "3e-3"]), "stopped", "stopped by ob", None, tags=("sweep",),
         note="Diverges. Too high, as expected."),
    Past("code-docs-a", "kim", 11 * _DAY, Run(4200, 0.92, 2.11, 3e-4, 7), _asks("llama-60m", "python-docs"), nodes=2),
    Past("code-docs-b", "kim", 10.1 * _DAY, Run(4200, 0.9, 2.04, 5e-4, 8), _asks("llama-60m", "python-docs"), nodes=2,
         tags=("good",)),
    Past("llama-110m-v2", "ob", 8 * _DAY, Run(12000, 1.39, 2.58, 6e-4, 9), _asks("llama-110m"), tags=("baseline",),
         digest="c07be913", note="Cosine to 10 %, new shard order. 0.13 better than v1 at the same step."),
    Past("llama-350m-try", "ollie", 6 * _DAY, Run(8000, 3.9, 2.5, 2e-4, 10, done=412), _asks("llama-350m"),
         "failed", "rank 2 on gpu2: CUDA out of memory (8 GB card); the batch does not fit", 1,
         events=(("rank_failed", "error", "rank 2 on gpu2 ended with exit code 1: CUDA out of memory"),)),
    Past("llama-350m-ga8", "ollie", 5.2 * _DAY, Run(2400, 6.8, 2.9, 2e-4, 11),
         _asks("llama-350m", batch_size=2, gradient_accumulation=16), tags=("slow",)),
    Past("tokenizer-32k", "kim", 3 * _DAY, Run(1800, 0.9, 2.66, 5e-4, 12), _asks("llama-60m"), nodes=2),
    Past("llama-110m-v3", "ob", 1.6 * _DAY, Run(12000, 1.38, 2.52, 6e-4, 13), _asks("llama-110m"),
         tags=("baseline", "good"), digest="41d8aa06", torch="2.10.0", note="torch 2.10. Same speed, slightly better."),
    Past("llama-110m-v4", "ob", 1.8 * _HOUR, Run(12000, 1.38, 2.46, 8e-4, 14, done=4680, lines=1200),
         _asks("llama-110m"), "running", exit_code=None, tags=("candidate",), digest="5b07f3c2", torch="2.10.0",
         note="Higher peak rate, warm-up twice as long. Watch the norm around step 4,000.", events=(_CHECKPOINT,)),
)  # fmt: skip

WAITING = (
    ("eval-v4", "ob", _asks("llama-110m", after=["llama-110m-v4"], nodes=1)),
    ("llama-350m-long", "ollie", _asks("llama-350m", time_limit_s=6 * _HOUR, nodes=3)),
    ("code-docs-c", "kim", _asks("llama-60m", "python-docs", priority=10, nodes=2)),
    ("sweep-wd-0.2", "ob", _asks("llama-110m", hold=True, nodes=3)),
)
"""What waits in the queue: name, user, request."""
