"""Why a rank is slower than the others, as far as it lies in its own GPU: read of that one, not of its node. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Any

from ugro_py.stragglers.times import RankTimes

# Being held at its power limit is how a GPU at full load runs; the others do harm (`gpu_findings`).
_HARMFUL = ("hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown")
_POWER_CAP = "sw_power_cap"
_HOT_C = 83.0  # from here on NVIDIA's cards take their clock back, each at a limit of its own
_HOTTER_C = 10.0
_LOWER_CLOCK = 0.93
_OFTEN = 0.25

Samples = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Reason:
    """One thing that explains why a rank is slow.

    `kind` is `data`, `throttled`, `slower_card`, `foreign_process`, `slow_bus`, `cpu_busy`, `cpu_limited`,
    `slower_cpu` or `unknown`; `text` has the evidence, `next_step` says what to do.
    """

    kind: str
    text: str
    next_step: str = ""


def throttled(slow: RankTimes, others: Sequence[RankTimes], samples: Mapping[str, Samples]) -> list[Reason]:
    """Return what slows the rank's GPU down: its driver's word, a lower clock than the same card has elsewhere, heat.

    Args:
        slow: the rank.
        others: the other ranks of its gang.
        samples: node -> what it measured of itself meanwhile.
    """
    mine = _readings(slow, samples)
    if not mine:
        return []
    same = [_readings(rank, samples) for rank in others if rank.gpu_name == slow.gpu_name]
    peers = [reading for readings in same for reading in readings]
    heat, usual_heat = mean(mine, "temperature_c"), mean(peers, "temperature_c")
    clock, usual_clock = mean(mine, "clock_sm_mhz"), mean(peers, "clock_sm_mhz")
    signs = _signs(mine)
    harmful = [name for name in _HARMFUL if signs.get(name, 0.0) >= _OFTEN]
    capped = signs.get(_POWER_CAP, 0.0) >= _OFTEN and _signs(peers).get(_POWER_CAP, 0.0) < signs[_POWER_CAP] / 2
    too_hot = heat is not None and heat >= _HOT_C and (usual_heat is None or heat - usual_heat >= _HOTTER_C)
    slowed = clock is not None and usual_clock is not None and clock < _LOWER_CLOCK * usual_clock
    if not (harmful or capped or too_hot or slowed):
        return []
    named = [*harmful, *([_POWER_CAP] if capped else [])]
    share = sum(bool(_named(reading) & set(named)) for reading in mine) / len(mine)
    details = [" and ".join(_words(name) for name in named)] if named else []
    details += [_beside(clock, usual_clock, "MHz")] if slowed else []
    details += [_beside(mean(mine, "power_w"), mean(peers, "power_w"), "W")] if capped else []
    details += [_beside(heat, usual_heat, "°C")] if too_hot or harmful or capped or slowed else []
    if named:
        what = f"its GPU is throttled {100 * share:.0f} % of the time"
    else:
        what = "its GPU runs at a lower clock" if slowed else "its GPU is hot, and probably throttles"
    text = f"{what} ({'; '.join(detail for detail in details if detail)})"
    advice = "see its power limit with `nvidia-smi -q -d POWER`" if capped and not (harmful or too_hot) else (
        f"check the fans, the air flow and the power supply of {slow.node}"
    )  # fmt: skip
    return [Reason("throttled", text, advice)]


def foreign(slow: RankTimes, findings: Sequence[Mapping[str, Any]]) -> list[Reason]:
    """Return what the health sweep said last of others' processes on the rank's GPU; of other GPUs it does not matter.

    Its findings name a GPU by its index, as in "GPU 1 is used by alice" (`gpu_findings`).
    """
    if slow.gpu_index is None:
        return []
    told = {str(found.get("text")): str(found.get("remedy") or "")
            for found in findings if found.get("check") == "gpu_processes"}  # fmt: skip
    mine = [(text, remedy) for text, remedy in told.items() if text.startswith(f"GPU {slow.gpu_index} ")]
    return [Reason("foreign_process", text, remedy) for text, remedy in mine[-1:]]


def bus(slow: RankTimes, others: Sequence[RankTimes], samples: Mapping[str, Samples]) -> list[Reason]:
    """Return that the PCIe link of the rank's GPU is half as fast as the others' or slower: a riser, a wrong slot."""
    mine = _link(_readings(slow, samples))
    links = [link for link in (_link(_readings(rank, samples)) for rank in others) if link is not None]
    if mine is None or not links:
        return []
    usual = median_low(links)  # the first of a link is its speed
    if mine[0] > usual[0] / 2:
        return []
    text = f"its GPU is on PCIe {mine[1]}.0 x{mine[2]}, the others on {usual[1]}.0 x{usual[2]}"
    return [
        Reason("slow_bus", text, f"look how the card sits in {slow.node}: its slot, a riser, the BIOS (`lspci -vv`)")
    ]


def _link(readings: Samples) -> tuple[float, int, int] | None:
    """Return the fastest PCIe link that was read, as (speed, generation, lanes): without work a GPU slows it down."""
    found = []
    for reading in readings:
        generation, width = reading.get("pcie_generation"), reading.get("pcie_width")
        if isinstance(generation, int) and isinstance(width, int) and 0 < generation < 20 and 0 < width <= 64:
            found.append((width * 2.0**generation, generation, width))
    return max(found, default=None)


def card(slow: RankTimes, others: Sequence[RankTimes]) -> list[Reason]:
    """Return that the rank's GPU is of another model than any of the others'."""
    models = Counter(rank.gpu_name for rank in others if rank.gpu_name)
    if not slow.gpu_name or not models or slow.gpu_name in models:
        return []
    usual = models.most_common(1)[0][0]
    text = f"its GPU is a {slow.gpu_name}, the others' {usual}"
    return [Reason("slower_card", text, "see with `ugro worth` whether it helps at all, or give it fewer rows")]


def mean(readings: Samples, key: str) -> float | None:
    """Return the mean of what readings say under `key`, without what is no finite number; None without any."""
    known = [reading[key] for reading in readings if isinstance(reading.get(key), int | float)]
    known = [value for value in known if math.isfinite(value)]
    return sum(known) / len(known) if known else None


def _readings(rank: RankTimes, samples: Mapping[str, Samples]) -> list[Mapping[str, Any]]:
    """Return what was read of the rank's own GPU."""
    found: list[Mapping[str, Any]] = []
    for sample in samples.get(rank.node, ()):
        gpus = sample.get("gpus")
        for gpu in gpus if isinstance(gpus, list) else ():
            if isinstance(gpu, dict) and gpu.get("uuid") == rank.gpu:
                found.append(gpu)
    return found


def _named(reading: Mapping[str, Any]) -> set[str]:
    """Return the reasons that a reading gives for a lower clock."""
    named = reading.get("throttle")
    return {name for name in named if isinstance(name, str)} if isinstance(named, list) else set()


def _signs(readings: Samples) -> dict[str, float]:
    """Return for each reason of a lower clock the share of readings that name it."""
    counted = Counter(name for reading in readings for name in _named(reading))
    return {name: count / len(readings) for name, count in counted.items()}


def _words(name: str) -> str:
    return "power cap" if name == _POWER_CAP else name.replace("_", " ")


def _beside(value: float | None, usual: float | None, unit: str) -> str:
    if value is None:
        return ""
    return f"{value:.0f} {unit}" + ("" if usual is None else f", the others {usual:.0f}")
