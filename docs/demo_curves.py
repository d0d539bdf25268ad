"""Made-up training: what the supervisors of a job's nodes would have written, with curves as real runs have them."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ugro_py import metrics
from ugro_py.paths import JobPaths
from ugro_py.scheduler import Placement


@dataclass(frozen=True)
class Run:
    """How a training goes.

    Attributes:
        steps: how many there are, and `done` how many were made.
        step_s: seconds a step takes.
        floor: the loss it comes near to.
        rate: the highest learning rate.
        seed: of the noise.
        spike: the step at which the loss jumps, as it does with a bad batch; None: it does not.
        diverges: whether the loss leaves for ever at the end.
        lines: about so many steps are written; real runs write each.
    """

    steps: int
    step_s: float
    floor: float = 2.4
    rate: float = 3e-4
    seed: int = 0
    done: int | None = None
    spike: int | None = None
    diverges: bool = False
    lines: int = 600

    @property
    def made(self) -> int:
        """How many steps were made."""
        return self.steps if self.done is None else self.done


_CARDS: dict[str, dict[str, float]] = {
    "RTX 5070 Ti": {"util": 91, "mem": 9.8, "power": 248, "heat": 66, "speed": 1.0},
    "RTX 4070": {"util": 94, "mem": 7.1, "power": 186, "heat": 71, "speed": 1.0},
    "RTX 3070 Ti": {"util": 97, "mem": 7.3, "power": 271, "heat": 83, "speed": 1.22},
}
_SLOWS_AT_C = 84


def write(job: str, run: Run, placements: Sequence[Placement], begun: float, tokens: int = 8192) -> None:
    """Write the events of the only attempt of a job, its rank logs and what follows from them.

    Args:
        job: its name; its folder is there.
        run: how it goes.
        placements: its ranks.
        begun: when, in Unix time.
        tokens: of a step and rank.
    """
    paths = JobPaths(job)
    paths.logs.mkdir(parents=True, exist_ok=True)
    paths.attempt(1).mkdir(parents=True, exist_ok=True)
    noise = random.Random(run.seed)
    every = max(1, run.made // run.lines)
    shown = sorted({*range(1, run.made + 1, every), *range(max(1, run.made - 40), run.made + 1)})
    events: dict[str, list[dict[str, Any]]] = {place.node: [] for place in placements}
    logs: dict[int, list[str]] = {place.rank: [] for place in placements}
    drift = 0.0
    for step in shown:
        at = begun + 20 + step * run.step_s
        drift = 0.8 * drift + noise.gauss(0, 0.018)
        loss = _loss(run, step) + drift
        rate = _rate(run, step)
        norm = 0.55 + 1.9 * math.exp(-step / (0.08 * run.steps)) + abs(noise.gauss(0, 0.12))
        for place in placements:
            line = _line(place, run, step, noise, tokens)
            line |= {"training_loss": round(loss, 4), "learning_rate": rate, "gradient_norm": round(norm, 4)}
            events[place.node].append({"t": at + noise.random() * 0.01, "kind": "metrics", **line})
            told = f"loss {loss:.4f}  lr {rate:.2e}  {line['throughput_tokens_sec']:,.0f} tokens/s"
            logs[place.rank].append(f"step {step:>6}/{run.steps}  {told}")
    for node, sample in _samples(run, placements, begun, noise):
        events[node].append(sample)
    for node, lines in events.items():
        lines.sort(key=lambda event: event["t"])
        text = "".join(json.dumps(event) + "\n" for event in lines)
        paths.node_events(1, node).write_text(text, encoding="utf-8")
    for rank, rows in logs.items():
        head = [f"rank {rank} of {len(placements)}: NCCL 2.26.2, {_card(placements, rank)}", "compiled in 14.2 s"]
        paths.rank_log(rank).write_text("\n".join([*head, *rows]) + "\n", encoding="utf-8")
    metrics.rebuild(paths)


def _loss(run: Run, step: int) -> float:
    value = run.floor + (10.4 - run.floor) * (1 + step / (0.006 * run.steps)) ** -0.62
    if run.spike is not None and step >= run.spike:
        value += 1.1 * math.exp(-(step - run.spike) / (0.01 * run.steps))
    if run.diverges:
        value += 5.2 / (1 + math.exp(-(step - 0.9 * run.made) / (0.02 * run.made)))
    return value


def _rate(run: Run, step: int) -> float:
    warm = 0.04 * run.steps
    if step < warm:
        return run.rate * step / warm
    return run.rate * (0.1 + 0.45 * (1 + math.cos(math.pi * (step - warm) / (run.steps - warm))))


def _line(place: Placement, run: Run, step: int, noise: random.Random, tokens: int) -> dict[str, Any]:
    card = _CARDS[place.gpu.name]
    work = run.step_s * card["speed"] / 1.22
    data = 0.02 + abs(noise.gauss(0, 0.004))
    step_s = run.step_s * (1 + abs(noise.gauss(0, 0.012)))
    return {
        "rank": place.rank, "step": step, "total_steps": run.steps, "epoch": 1,
        "gpu_util": round(min(100, card["util"] + noise.gauss(0, 1.6)), 1),
        "gpu_mem_used_gb": round(card["mem"] + noise.gauss(0, 0.03), 2),
        "throughput_tokens_sec": round(tokens / step_s, 1),
        "step_time_s": round(step_s, 4), "data_time_s": round(data, 4),
        "wait_time_s": round(max(0.01, run.step_s - work - data), 4), "cpu_time_s": round(0.11 * run.step_s, 4),
        "gradient_bytes": 440_000_000,
    }  # fmt: skip


def _samples(
    run: Run, placements: Sequence[Placement], begun: float, noise: random.Random
) -> list[tuple[str, dict[str, Any]]]:
    """Return (node, sample) over the whole run: one a second in life, fewer here."""
    end = begun + 20 + run.made * run.step_s
    every = max(1.0, min(8.0, (end - begun) / 900))
    found = []
    for node in dict.fromkeys(place.node for place in placements):
        mine = [place for place in placements if place.node == node]
        at = begun
        while at <= end:
            busy = 0.0 if at - begun < 18 else 1.0
            gpus = [_gpu(place, busy, 1 - math.exp(-(at - begun) / 240), noise) for place in mine]
            found.append(
                (node, {
                    "t": round(at, 3), "kind": "sample", "cpu_percent": round(14 + abs(noise.gauss(0, 4)), 1),
                    "mem_used_gb": round(11.6 + noise.gauss(0, 0.1), 2), "gpus": gpus,
                    "net_rx_mb_s": round(busy * (92 + noise.gauss(0, 6)), 2),
                    "net_tx_mb_s": round(busy * (90 + noise.gauss(0, 6)), 2),
                    "disk_read_mb_s": round(abs(noise.gauss(2, 2)), 2),
                    "disk_write_mb_s": round(abs(noise.gauss(0.4, 0.5)), 2),
                })
            )  # fmt: skip
            at += every
    return found


def _gpu(place: Placement, busy: float, warm: float, noise: random.Random) -> dict[str, Any]:
    """Return what a sample says of one GPU, that works (`busy` 1) and has become warm (`warm` to 1)."""
    card = _CARDS[place.gpu.name]
    heat = round(39 + (card["heat"] - 39) * warm + noise.gauss(0, 0.6))
    held = heat >= _SLOWS_AT_C
    return {
        "uuid": place.gpu.uuid, "index": place.gpu.index,
        "util": round(busy * min(100, card["util"] + noise.gauss(0, 2)), 1),
        "mem_used_gb": round(0.4 + busy * (card["mem"] - 0.4) + noise.gauss(0, 0.02), 2),
        "temperature_c": heat, "power_w": round(24 + busy * (card["power"] - 24) + noise.gauss(0, 5), 1),
        "clock_sm_mhz": round((0.2 + 0.8 * busy) * (2460 - 210 * held) + noise.gauss(0, 12)),
        "throttle": ["sw_thermal_slowdown"] if held else [],
    }  # fmt: skip


def _card(placements: Sequence[Placement], rank: int) -> str:
    return next(place.gpu.name for place in placements if place.rank == rank)
