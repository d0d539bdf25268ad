"""Is a node worth it? What a step takes with the whole gang, and would take without each of its nodes. Pure.

A step is as long as the slowest rank's own work, and then what of the all-reduce is not hidden behind it:

    step = max over ranks(own work) + exposed transfer
    all-reduce of S bytes among r ranks = 2 (r - 1) / r * S / B  +  2 (r - 1) * k * a

B is the slowest link of the ring (bytes/s), a the longest latency of its links, k the number of DDP's buckets. That is
the cost of a ring all-reduce in the alpha-beta model: R. Thakur, R. Rabenseifner, W. Gropp, "Optimization of Collective
Communication Operations in MPICH", IJHPCA 19 (2005); that no all-reduce moves fewer bytes over a link is shown by
P. Patarasuk, X. Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", JPDC 69 (2009).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from ugro_py.moments import iso

if TYPE_CHECKING:
    from ugro_py.stragglers.times import RankTimes, Times

Advice = Literal["keep", "leave out", "no difference", "no telling"]

# Below this share a change of the step time is less than the measurements are sure of.
MARGIN = 0.03
# DDP reduces in buckets: the first of 1 MiB, so that it begins early, the others of 25 MiB (torch's defaults).
_FIRST_BUCKET, _BUCKET = 1 << 20, 25 << 20

ASSUMPTIONS = (
    "the global batch stays the same: the ranks that are left share the work of those that go, in proportion",
    "a ring through the nodes in the order of their ranks, as fast as its slowest link; within a node it costs nothing",
    "what of the transfer is hidden behind computing stays the same share",
    "one TCP stream's bandwidth, measured while nothing else used the network",
)


@dataclass(frozen=True)
class Link:
    """How fast bytes get from one node to another.

    `mb_s` is in MB (1e6 bytes) a second, `latency_ms` half a round trip; `measured_at` is Unix time.
    """

    source: str
    target: str
    mb_s: float
    latency_ms: float
    measured_at: float

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values, with the time as in every `--json`."""
        return asdict(self) | {"measured_at": iso(datetime.fromtimestamp(self.measured_at, UTC))}


@dataclass(frozen=True)
class Prediction:
    """A step of a gang. `step_s` is `work_s` of its slowest rank plus `transfer_s`; all in seconds.

    `slow_node` has the slowest rank; `slow_link` is the slowest one of the ring, None with one node.
    """

    step_s: float
    work_s: float
    transfer_s: float
    slow_node: str
    slow_link: Link | None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self) | {"slow_link": self.slow_link and self.slow_link.to_json()}


@dataclass(frozen=True)
class Without:
    """What the gang would be without one node.

    `change` is that of the predicted step time, -0.14 for 14 % less. There is no telling where the prediction of the
    whole gang, which can be held against what was measured, is further off than that.
    """

    node: str
    step: Prediction
    change: float
    advice: Advice


@dataclass(frozen=True)
class Worth:
    """What each node of a gang is worth to it.

    Attributes:
        measured_s: a step as it was.
        whole: the same, predicted.
        off: how far the two differ, as a share of the predicted one: it tells how much to trust the rest.
        gradient_bytes: what is reduced at each step.
        without: in order of the nodes.
        links: the measurements it rests on.
    """

    measured_s: float
    whole: Prediction
    off: float
    gradient_bytes: int
    without: tuple[Without, ...]
    links: tuple[Link, ...]
    assumptions: tuple[str, ...] = ASSUMPTIONS

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self) | {
            "whole": self.whole.to_json(),
            "without": [asdict(each) | {"step": each.step.to_json()} for each in self.without],
            "links": [link.to_json() for link in self.links],
        }


def all_reduce_s(size: int, ranks: int, links: Sequence[Link]) -> float:
    """Return how long an all-reduce of `size` bytes takes `ranks` ranks over the `links` of a ring, in seconds."""
    if not links or ranks < 2:
        return 0.0
    slowest = min(link.mb_s for link in links) * 1e6
    buckets = 1 + math.ceil(max(0, size - _FIRST_BUCKET) / _BUCKET)
    latency = max(link.latency_ms for link in links) / 1000
    return 2 * (ranks - 1) / ranks * size / slowest + 2 * (ranks - 1) * buckets * latency


def predict(times: Times, gradient_bytes: int | None, links: Sequence[Link]) -> Worth | None:
    """Return what each node of the gang is worth; None with one node, or where something needed is not known.

    Args:
        times: of `stragglers.times.times_of`.
        gradient_bytes: what each rank reduces at a step.
        links: measured ones, each direction; those of other nodes do not matter.
    """
    nodes = list(dict.fromkeys(rank.node for rank in times.ranks))
    fast = {(link.source, link.target): link for link in links}
    if len(nodes) < 2 or not gradient_bytes or not times.step_s:
        return None
    if any(rank.own_s is None for rank in times.ranks) or times.transfer_s is None:
        return None
    # Without one node its neighbours in the ring meet, so that other links count than now.
    if any((one, other) not in fast for one in nodes for other in nodes if one != other):
        return None

    def gang(names: Sequence[str]) -> Prediction:
        return _predict(times, names, len(nodes), gradient_bytes, fast, nodes)

    whole = gang(nodes)
    off = abs(times.step_s / whole.step_s - 1)
    without = []
    for node in nodes:
        step = gang([name for name in nodes if name != node])
        change = step.step_s / whole.step_s - 1
        without.append(Without(node, step, change, _advice(change, off)))
    used = tuple(fast[one, other] for one in nodes for other in nodes if one != other)
    return Worth(times.step_s, whole, off, gradient_bytes, tuple(without), used)


def _advice(change: float, off: float) -> Advice:
    if off > max(abs(change), MARGIN):
        return "no telling"
    return "no difference" if abs(change) < MARGIN else "keep" if change > 0 else "leave out"


def _predict(
    times: Times,
    names: Sequence[str],
    count: int,
    size: int,
    fast: dict[tuple[str, str], Link],
    everyone: Sequence[str],
) -> Prediction:
    left = [rank for rank in times.ranks if rank.node in names]
    slow = max(left, key=_own)
    work = _own(slow) * len(times.ranks) / len(left)
    now = all_reduce_s(size, len(times.ranks), _ring(everyone, fast))
    links = _ring(names, fast)
    then = all_reduce_s(size, len(left), links)
    transfer = _exposed(times.transfer_s or 0.0, now, then)
    slow_link = min(links, key=lambda link: link.mb_s, default=None)
    return Prediction(work + transfer, work, transfer, slow.node, slow_link)


def _own(rank: RankTimes) -> float:
    return rank.own_s or 0.0


def _ring(names: Sequence[str], fast: dict[tuple[str, str], Link]) -> list[Link]:
    """Return the links from each node to the next one, and from the last to the first."""
    if len(names) < 2:
        return []
    return [fast[one, other] for one, other in zip(names, [*names[1:], names[0]], strict=True)]


def _exposed(measured_s: float, now_s: float, then_s: float) -> float:
    """Return what of a transfer will not be hidden, from what is not hidden of the one there is.

    What was measured beyond the bytes' own time (calls, wake-ups, a late partner) stays as it is; if it was less,
    the rest was hidden, and as large a share of it will be.
    """
    if measured_s >= now_s:
        return measured_s - now_s + then_s
    return measured_s * then_s / now_s
