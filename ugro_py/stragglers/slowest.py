"""Which rank a gang waits for, and why: where the time of its steps goes, rank by rank. Times are in seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from ugro_py.names import check_name
from ugro_py.stragglers import causes, words
from ugro_py.stragglers.gpu import Reason
from ugro_py.stragglers.reading import Window, window
from ugro_py.stragglers.times import RankTimes, Times, times_of

if TYPE_CHECKING:
    from ugro_py.state import Store
    from ugro_py.worth.prediction import Worth

Bottleneck = Literal["straggler", "network", "data", "compute", "unknown"]

# A rank stands out when its own part of a step is so much longer than the others' (they wait for it that long) …
BEHIND = 0.10
# … and the difference is so much of a whole step: of a step that is nearly all network it would not matter.
BEHIND_OF_STEP = 0.04
NETWORK_SHARE = 0.25
DATA_SHARE = 0.15


@dataclass(frozen=True)
class Slowest:
    """The rank that the others wait for.

    Attributes:
        behind: how much longer its own part of a step takes than that of the others' median, 0.23 for 23 %.
        behind_s: the same in seconds of a step.
    """

    rank: int
    node: str
    behind: float
    behind_s: float
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Report:
    """Where the time of a job's steps goes.

    Attributes:
        attempt, steps: what was looked at: an attempt and how many of its newest steps.
        timed: whether the script tells its waiting time; without it a straggler of a gang cannot be told.
        step_s, transfer_s: as in `Times`.
        shares: of a step, averaged over the ranks: `compute`, `data`, `peers` (waiting for slower ranks) and
            `transfer`; they add up to 1. Empty where not known.
        bottleneck: what a step is waiting for most.
        verdict: the same in a sentence.
        gradient_bytes: what each rank reduces with the others at a step.
        worth: what the gang would be without each of its nodes; None where the network was not measured.
    """

    job: str
    attempt: int
    steps: int
    timed: bool
    ranks: tuple[RankTimes, ...]
    step_s: float | None
    transfer_s: float | None
    shares: dict[str, float]
    slowest: Slowest | None
    bottleneck: Bottleneck
    verdict: str
    gradient_bytes: int | None
    worth: Worth | None

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        values = asdict(self)
        for rank, row in zip(self.ranks, values["ranks"], strict=True):
            row |= {"compute_s": rank.compute_s, "cores": rank.cores}
        values["worth"] = self.worth.to_json() if self.worth else None
        return values


def report(job: str, store: Store | None = None, attempt: int | None = None) -> Report:
    """Return where the time of the newest steps of `job` went.

    Args:
        job: its name.
        store: the state database; with it what the health sweep found on the nodes meanwhile counts as evidence.
        attempt: which one; default the newest that has metrics.

    Raises:
        NotFoundError: there is nothing of such a job.
        StateError: the database or the central store cannot be used.
    """
    from ugro_py.worth import links as worth_links
    from ugro_py.worth import prediction

    seen = window(check_name(job), store, attempt)
    times = times_of(seen.steps, seen.places)
    links = worth_links.kept({rank.node for rank in times.ranks})
    predicted = prediction.predict(times, seen.gradient_bytes, links)
    return judge(job, seen, times, _findings(store, seen) if store else {}, predicted)


def told(job: str, store: Store | None = None, attempt: int | None = None) -> dict[str, Any]:
    """Return `report` as JSON values under `report`, and as what `ugro stragglers` prints under `lines`."""
    found = report(job, store, attempt)
    return {"report": found.to_json(), "lines": words.lines(found)}


def judge(
    job: str,
    seen: Window,
    times: Times,
    findings: Mapping[str, Sequence[Mapping[str, Any]]],
    predicted: Worth | None = None,
) -> Report:
    """Return the report of what was `seen`; `findings` is node -> what the health sweep found there. Pure."""
    shares = _shares(times)
    slowest = _slowest(times, seen, findings)
    bottleneck: Bottleneck = "unknown"
    if slowest is not None:
        bottleneck = "straggler"
    elif shares:
        if shares["transfer"] >= NETWORK_SHARE and shares["transfer"] >= shares["data"]:
            bottleneck = "network"
        else:
            bottleneck = "data" if shares["data"] >= DATA_SHARE else "compute"
    return Report(
        job=job,
        attempt=seen.attempt,
        steps=max((rank.steps for rank in times.ranks), default=0),
        timed=bool(shares),
        ranks=times.ranks,
        step_s=times.step_s,
        transfer_s=times.transfer_s,
        shares=shares,
        slowest=slowest,
        bottleneck=bottleneck,
        verdict=words.verdict(times, shares, slowest, bottleneck, predicted, len(seen.places)),
        gradient_bytes=seen.gradient_bytes,
        worth=predicted,
    )


def _shares(times: Times) -> dict[str, float]:
    parts: dict[str, list[float]] = {"compute": [], "data": [], "peers": [], "transfer": []}
    for rank in times.ranks:
        if not rank.step_s or rank.wait_s is None:
            return {}
        peers = min(rank.peers_s or 0.0, rank.wait_s)
        parts["compute"].append((rank.compute_s or 0.0) / rank.step_s)
        parts["data"].append((rank.data_s or 0.0) / rank.step_s)
        parts["peers"].append(peers / rank.step_s)
        parts["transfer"].append((rank.wait_s - peers) / rank.step_s)
    means = {name: sum(values) / len(values) for name, values in parts.items() if values}
    whole = sum(means.values())
    # Medians of parts need not add up to the median of the whole.
    return {name: value / whole for name, value in means.items()} if whole else {}


def _slowest(times: Times, seen: Window, findings: Mapping[str, Sequence[Mapping[str, Any]]]) -> Slowest | None:
    """Return the rank that stands out, by its own part of a step; where nothing is told of waiting, by its pace."""
    lengths = {rank.rank: rank.own_s for rank in times.ranks if rank.own_s is not None}
    if len(lengths) < len(times.ranks):
        lengths = {rank.rank: rank.step_s for rank in times.ranks if rank.step_s is not None}
    if len(lengths) < 2:
        return None
    number = max(lengths, key=lambda rank: lengths[rank])
    usual = median(length for rank, length in lengths.items() if rank != number)
    behind_s = lengths[number] - usual
    if usual <= 0 or behind_s < BEHIND * usual or behind_s < BEHIND_OF_STEP * (times.step_s or 0.0):
        return None
    slow = next(rank for rank in times.ranks if rank.rank == number)
    others = [rank for rank in times.ranks if rank.rank != number]
    found = causes.reasons(slow, others, seen.samples, findings)
    return Slowest(number, slow.node, behind_s / usual, behind_s, found)


def _findings(store: Store, seen: Window) -> dict[str, list[Mapping[str, Any]]]:
    """Return what was found on the ranks' nodes from the first of the steps to the last."""
    if not seen.first:
        return {}
    found: dict[str, list[Mapping[str, Any]]] = {}
    try:
        first, last = (datetime.fromtimestamp(moment, UTC) for moment in (seen.first - 60, seen.last + 60))
    except (ValueError, OverflowError):
        return {}  # a script may write any time into its lines, also one that no calendar has
    for node in {place.node for place in seen.places.values()}:
        checks = store.health_history(node, first, until=last)
        found[node] = [finding for check in checks for finding in check.findings]
    return found
