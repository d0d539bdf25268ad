"""Where the time of each rank's steps went, from the metrics of the newest steps. Times are in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    Steps = Mapping[int, Mapping[str, np.ndarray]]
    """rank -> column -> its values, NaN where a line lacks one; the steps ascending."""

COLUMNS = ("step_time_s", "data_time_s", "wait_time_s", "cpu_time_s")
# A rank's first step is slow (memory, kernels, connections) and says nothing of the others.
_COLD_STEPS = 1
_LONGEST_S = 1e6


class Place(NamedTuple):
    """Where a rank is: its node, the UUID of its GPU, that one's model and index on its node, where they are known."""

    node: str = "?"
    gpu: str = ""
    gpu_name: str = ""
    gpu_index: int | None = None


@dataclass(frozen=True)
class RankTimes:
    """What a step is for one rank: medians over the steps looked at, None where the script does not tell.

    Attributes:
        gpu, gpu_name: UUID and model of its GPU; a CPU slot has no model.
        steps: how many steps were looked at.
        step_s, step_p95_s: a whole step; the 95th percentile shows single slow ones.
        data_s: it waited for its next batch.
        wait_s: it stood in collectives: `peers_s` for ranks that came later, the rest for the bytes.
        own_s: the step without `wait_s`: what it takes on its own account, data loading included.
        cpu_s: processor time of its process, of all threads.
        slowest_share: of the steps, those in which its `own_s` was the longest of all ranks.
        gpu_index: of its GPU on its node.
    """

    rank: int
    node: str
    gpu: str
    gpu_name: str
    steps: int
    step_s: float | None
    step_p95_s: float | None
    data_s: float | None
    wait_s: float | None
    peers_s: float | None
    own_s: float | None
    cpu_s: float | None
    slowest_share: float | None
    gpu_index: int | None = None

    @property
    def compute_s(self) -> float | None:
        """Its own part of the step without the wait for data."""
        return None if self.own_s is None else max(0.0, self.own_s - (self.data_s or 0.0))

    @property
    def cores(self) -> float | None:
        """How many processor cores it has while it works for itself."""
        return None if not self.own_s or self.cpu_s is None else self.cpu_s / self.own_s


@dataclass(frozen=True)
class Times:
    """The ranks of a gang, and what is theirs together.

    Attributes:
        ranks: in order.
        step_s: the median step of the gang.
        transfer_s: of a step, what even the rank that comes last to the collectives stands in them: the bytes'
            own time as far as it is not hidden behind computing. None where the script tells no waiting time.
    """

    ranks: tuple[RankTimes, ...]
    step_s: float | None
    transfer_s: float | None


def from_json(report: Mapping[str, Any]) -> Times:
    """Return the times in the JSON values of a report (`stragglers.Report.to_json`)."""
    fields = RankTimes.__dataclass_fields__
    ranks = tuple(RankTimes(**{key: rank.get(key) for key in fields}) for rank in report["ranks"])
    return Times(ranks, report["step_s"], report["transfer_s"])


def times_of(steps: Steps, places: Mapping[int, Place]) -> Times:
    """Return the times of every rank in `steps`; `places` says where each is."""
    import numpy as np

    warm = {rank: _without_cold(columns) for rank, columns in steps.items()}
    together = _together(warm)
    slowest: dict[int, float] = {}
    peers: dict[int, float] = {}
    transfer = None
    if together is not None:
        own, wait = together
        least = wait.min(axis=0)
        transfer = float(np.median(least))
        winners = own.argmax(axis=0)
        for index, rank in enumerate(sorted(warm)):
            slowest[rank] = float((winners == index).mean())
            peers[rank] = float(np.median(wait[index] - least))
    ranks = tuple(
        _rank(rank, warm[rank], places.get(rank, Place()), peers.get(rank), slowest.get(rank)) for rank in sorted(warm)
    )
    known = [rank.step_s for rank in ranks if rank.step_s is not None]
    return Times(ranks, float(np.median(known)) if known else None, transfer)


def _without_cold(columns: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    import numpy as np

    # What is no length of time says nothing, whatever a script wrote.
    columns = {
        name: np.where((values >= 0) & (values < _LONGEST_S), values, np.nan) if name in COLUMNS else values
        for name, values in columns.items()
    }
    cold = int((columns["step"] <= _COLD_STEPS).sum())
    # Of an attempt that resumed, step 1 is not the first one; one slow step more does a median no harm.
    return {name: values[cold:] for name, values in columns.items()} if cold < len(columns["step"]) else columns


def _together(steps: Steps) -> tuple[np.ndarray, np.ndarray] | None:
    """Return own time and waiting time, rank by step, of the steps that every rank told of; None without any."""
    import numpy as np

    told = []
    for columns in steps.values():
        whole = np.isfinite(columns["step_time_s"]) & np.isfinite(columns["wait_time_s"])
        told.append(columns["step"][whole])
    if len(told) < 2:
        return None
    common = told[0]
    for numbers in told[1:]:
        common = np.intersect1d(common, numbers)
    if not len(common):
        return None
    own, wait = [], []
    for rank in sorted(steps):
        columns = steps[rank]
        numbers, first = np.unique(columns["step"], return_index=True)
        at = first[np.searchsorted(numbers, common)]
        wait.append(columns["wait_time_s"][at])
        own.append(columns["step_time_s"][at] - wait[-1])
    return np.array(own), np.array(wait)


def _rank(
    rank: int,
    columns: Mapping[str, np.ndarray],
    place: Place,
    peers_s: float | None,
    slowest_share: float | None,
) -> RankTimes:
    import numpy as np

    step = columns["step_time_s"]
    known = step[np.isfinite(step)]
    step_s, p95 = (float(np.median(known)), float(np.percentile(known, 95))) if len(known) else (_pace(columns), None)
    return RankTimes(
        rank=rank,
        node=place.node,
        gpu=place.gpu,
        gpu_name=place.gpu_name,
        gpu_index=place.gpu_index,
        steps=len(columns["step"]),
        step_s=step_s,
        step_p95_s=p95,
        data_s=_median(columns["data_time_s"]),
        wait_s=_median(columns["wait_time_s"]),
        peers_s=peers_s,
        own_s=_median(step - columns["wait_time_s"]),
        cpu_s=_median(columns["cpu_time_s"]),
        slowest_share=slowest_share,
    )


def _median(values: np.ndarray) -> float | None:
    import numpy as np

    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else None


def _pace(columns: Mapping[str, np.ndarray]) -> float | None:
    """Return seconds for a step from when the lines were written: times of lines may be whole seconds only."""
    steps, moments = columns["step"], columns["time"]
    if len(steps) < 2 or steps[-1] <= steps[0] or not moments[-1] > moments[0]:
        return None
    return float((moments[-1] - moments[0]) / (steps[-1] - steps[0]))
