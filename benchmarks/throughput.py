"""Training under UGRO against the same training by hand: tokens per second once it runs evenly.

Both sides run train/train_production.py on the same hosts with the same arguments and write the same metrics,
checkpoints and TensorBoard events; UGRO adds its supervisor, its session and the stream of events to the controller.
The speed of both is computed in the same way from what the ranks write at each step; the first steps do not count.
"""

from __future__ import annotations

import json
import statistics

from benchmarks import torchrun
from benchmarks.bed import Bed
from benchmarks.measure import Result, paired
from ugro_py.paths import train_dir
from ugro_py.plan import program
from ugro_py.request.job import JobRequest

NAME = "training_throughput"
LIMIT = 0.98
STEPS = 100
WARM_UP_STEPS = 20
_ARGS = ("--max-steps", str(STEPS))
_FOLDER = "/var/tmp/bench"
_THREADS = {"OMP_NUM_THREADS": "1"}


def measure(bed: Bed, n: int = 5) -> Result:
    """Measure `n` pairs."""
    script, *arguments = program(JobRequest(name="by-hand", args=_ARGS), bed.cluster)

    def ours(number: int) -> float:
        job = f"train{number}"
        env = [word for name, value in _THREADS.items() for word in ("--env", f"{name}={value}")]
        bed.ugro("launch", "--nodes", str(len(bed.nodes)), "--epochs", "1", "--name", job, *env, "--", *_ARGS)
        return tokens_per_second((bed.jobs / job / "metrics.jsonl").read_text())

    def hand(number: int) -> float:
        folder = f"{_FOLDER}/{number}"
        env = {
            **_THREADS,
            "GLOO_SOCKET_IFNAME": "host0",
            "UGRO_METRICS_FILE": f"{folder}/metrics.jsonl",
            "UGRO_CHECKPOINT_DIR": f"{folder}/checkpoints",
            "UGRO_TENSORBOARD_DIR": f"{folder}/tensorboard",
        }
        command = [str(train_dir() / script), *arguments]
        bed.by_hand(torchrun.commands(bed, number, command), env)
        outputs = bed.by_hand({node.name: ["cat", f"{folder}/metrics.jsonl"] for node in bed.nodes})
        bed.by_hand({node.name: ["rm", "-r", _FOLDER] for node in bed.nodes})
        return tokens_per_second("".join(outputs.values()))

    return Result(NAME, "tokens/s", *paired(n, ours, hand), limit=LIMIT, more_is_better=True)


def tokens_per_second(metrics: str) -> float:
    """Return the speed of all ranks together over the steps after the warm-up.

    Args:
        metrics: lines of JSON with `rank`, `step` and `throughput_tokens_sec`. All steps have as many tokens, so the
            speed over many steps is the harmonic mean of theirs.
    """
    speeds: dict[int, list[float]] = {}
    for line in map(json.loads, metrics.splitlines()):
        if line["step"] > WARM_UP_STEPS:
            speeds.setdefault(line["rank"], []).append(line["throughput_tokens_sec"])
    assert all(len(steps) == STEPS - WARM_UP_STEPS for steps in speeds.values()), "a step has no metrics"
    return sum(statistics.harmonic_mean(steps) for steps in speeds.values())
