"""Why a rank is slower than the others: what was measured of it differs from what was measured of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from ugro_py.stragglers import gpu
from ugro_py.stragglers.gpu import Reason, Samples, mean
from ugro_py.stragglers.times import RankTimes

_FEWER_CORES = 0.85
_MORE_CPU = 1.15
_BUSY_PERCENT, _BUSIER_PERCENT = 90.0, 15.0
# What explains so much of the difference is told as its reason.
_SHARE = 0.4


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
        *gpu.throttled(slow, others, samples),
        *gpu.foreign(slow, findings.get(slow.node, ())),
        *gpu.card(slow, others),
        *gpu.bus(slow, others, samples),
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


def _cpu(slow: RankTimes, others: Sequence[RankTimes], samples: Mapping[str, Samples]) -> list[Reason]:
    load = mean(samples.get(slow.node, ()), "cpu_percent")
    elsewhere = _typical(mean(samples.get(node, ()), "cpu_percent") for node in {rank.node for rank in others})
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
