"""Why a rank is slower than the others: what was measured of it differs from what was measured of them. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from ugro_py.stragglers_times import RankTimes

# Being held at its power limit is how a GPU at full load runs; the others do harm (`gpu_findings`).
_HARMFUL = ("hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown")
_POWER_CAP = "sw_power_cap"
_HOT_C = 83.0  # from here on NVIDIA's cards take their clock back, each at a limit of its own
_HOTTER_C = 10.0
_LOWER_CLOCK = 0.93
_FEWER_CORES = 0.85
_MORE_CPU = 1.15
_BUSY_PERCENT, _BUSIER_PERCENT = 90.0, 15.0
_OFTEN = 0.25
# What explains so much of the difference is told as its reason.
_SHARE = 0.4

Samples = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Reason:
    """One thing that explains why a rank is slow.

    `kind` is `data`, `throttled`, `slower_card`, `foreign_process`, `cpu_busy`, `cpu_limited`, `slower_cpu` or
    `unknown`; `next_step` says what to do.
    """

    kind: str
    text: str
    next_step: str = ""


def reasons(
    slow: RankTimes,
    others: Sequence[RankTimes],
    samples: Mapping[str, Samples],
    findings: Mapping[str, Sequence[Mapping[str, Any]]],
) -> tuple[Reason, ...]:
    """Return why `slow` takes longer than `others`, the most telling reason first; never none.

    Args:
        slow: the rank.
        others: the other ranks of its gang.
        samples: node -> what it measured of itself meanwhile.
        findings: node -> what the health sweep found there meanwhile (`health.findings`).
    """
    found = [
        *_data(slow, others),
        *_throttled(slow, others, samples),
        *_foreign(slow, findings.get(slow.node, ())),
        *_card(slow, others),
        *_cpu(slow, others, samples),
    ]
    if not found:
        text = "nothing that was measured says why"
        found.append(Reason("unknown", text, f"run `ugro check {slow.node} --deep`, and look at what else runs there"))
    return tuple(found)


def _typical(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _data(slow: RankTimes, others: Sequence[RankTimes]) -> list[Reason]:
    usual_own, usual = _typical(rank.own_s for rank in others), _typical(rank.data_s for rank in others)
    if slow.data_s is None or usual is None or usual_own is None or slow.own_s is None:
        return []
    behind = slow.own_s - usual_own
    if behind <= 0 or slow.data_s - usual < _SHARE * behind:
        return []
    text = f"it waits {_ms(slow.data_s)} a step for its data, the others {_ms(usual)}"
    advice = f"give it more `--num-workers`, or look at the disk of {slow.node} (`iostat -x 1`)"
    return [Reason("data", text, advice)]


def _throttled(slow: RankTimes, others: Sequence[RankTimes], samples: Mapping[str, Samples]) -> list[Reason]:
    mine = _readings(slow, samples)
    if not mine:
        return []
    same = [_readings(rank, samples) for rank in others if rank.gpu_name == slow.gpu_name]
    peers = [reading for readings in same for reading in readings]
    heat, usual_heat = _mean(mine, "temperature_c"), _mean(peers, "temperature_c")
    clock, usual_clock = _mean(mine, "clock_sm_mhz"), _mean(peers, "clock_sm_mhz")
    signs = _signs(mine)
    harmful = [name for name in _HARMFUL if signs.get(name, 0.0) >= _OFTEN]
    capped = signs.get(_POWER_CAP, 0.0) >= _OFTEN and _signs(peers).get(_POWER_CAP, 0.0) < signs[_POWER_CAP] / 2
    too_hot = heat is not None and heat >= _HOT_C and (usual_heat is None or heat - usual_heat >= _HOTTER_C)
    slowed = clock is not None and usual_clock is not None and clock < _LOWER_CLOCK * usual_clock
    if not (harmful or capped or too_hot or slowed):
        return []
    details = [f"{heat:.0f} °C"] if heat is not None else []
    details += [name.replace("_", " ") for name in harmful] + (["power cap"] if capped else [])
    if clock is not None and usual_clock is not None:
        details.append(f"{clock:.0f} MHz, the others {usual_clock:.0f}")
    certain = harmful or capped or slowed
    text = f"its GPU {'throttles' if certain else 'is hot, and probably throttles'} ({', '.join(details)})"
    advice = "see its power limit with `nvidia-smi -q -d POWER`" if capped and not (harmful or too_hot) else (
        f"check the fans, the air flow and the power supply of {slow.node}"
    )  # fmt: skip
    return [Reason("throttled", text, advice)]


def _readings(rank: RankTimes, samples: Mapping[str, Samples]) -> list[Mapping[str, Any]]:
    """Return what was read of the rank's GPU."""
    found: list[Mapping[str, Any]] = []
    for sample in samples.get(rank.node, ()):
        gpus = sample.get("gpus")
        for gpu in gpus if isinstance(gpus, list) else ():
            if isinstance(gpu, dict) and gpu.get("uuid") == rank.gpu:
                found.append(gpu)
    return found


def _signs(readings: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return for each reason of a lower clock the share of readings that name it."""
    counted: Counter[str] = Counter()
    for reading in readings:
        named = reading.get("throttle")
        counted.update({name for name in named if isinstance(name, str)} if isinstance(named, list) else ())
    return {name: count / len(readings) for name, count in counted.items()}


def _mean(readings: Samples, key: str) -> float | None:
    known = [reading[key] for reading in readings if isinstance(reading.get(key), int | float)]
    known = [value for value in known if math.isfinite(value)]
    return sum(known) / len(known) if known else None


def _foreign(slow: RankTimes, findings: Sequence[Mapping[str, Any]]) -> list[Reason]:
    told = {str(found.get("text")): str(found.get("remedy") or "")
            for found in findings if found.get("check") == "gpu_processes"}  # fmt: skip
    return [Reason("foreign_process", text, remedy) for text, remedy in list(told.items())[-1:]]


def _card(slow: RankTimes, others: Sequence[RankTimes]) -> list[Reason]:
    models = Counter(rank.gpu_name for rank in others if rank.gpu_name)
    if not slow.gpu_name or not models or slow.gpu_name in models:
        return []
    usual = models.most_common(1)[0][0]
    text = f"its GPU is a {slow.gpu_name}, the others' {usual}"
    return [Reason("slower_card", text, "see with `ugro worth` whether it helps at all, or give it fewer rows")]


def _cpu(slow: RankTimes, others: Sequence[RankTimes], samples: Mapping[str, Samples]) -> list[Reason]:
    load = _mean(samples.get(slow.node, ()), "cpu_percent")
    elsewhere = _typical(_mean(samples.get(node, ()), "cpu_percent") for node in {rank.node for rank in others})
    cores, usual = slow.cores, _typical(rank.cores for rank in others)
    starved = cores is not None and usual is not None and cores < _FEWER_CORES * usual
    busy = load is not None and load >= _BUSY_PERCENT and (elsewhere is None or load - elsewhere >= _BUSIER_PERCENT)
    got = f"its process gets {cores:.2f} of a core while it works, the others {usual:.2f}" if starved else ""
    if busy and (starved or not slow.gpu_name):
        text = f"the CPU of {slow.node} is {load:.0f} % busy" + (f": {got}" if got else "")
        return [Reason("cpu_busy", text, f"see with `top` what else runs on {slow.node}")]
    # On a GPU the process mostly waits for it: then a slow GPU, not a lack of CPU, makes the share small.
    if starved and not slow.gpu_name:
        advice = f"look for a limit of CPU time on {slow.node} (`systemctl show -p CPUQuotaPerSecUSec`), or slow memory"
        return [Reason("cpu_limited", got, advice)]
    used, others_used = slow.cpu_s, _typical(rank.cpu_s for rank in others)
    if not slow.gpu_name and used is not None and others_used and used > _MORE_CPU * others_used:
        text = f"the same step takes {_ms(used)} of its processor, of the others' {_ms(others_used)}"
        return [Reason("slower_cpu", text, f"see with `lscpu` what clock the processor of {slow.node} has")]
    return []


def _ms(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"
