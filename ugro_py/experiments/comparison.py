"""Experiments side by side: what they achieved, what that took, and in what they differ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from ugro_py.errors import NotFoundError, UsageError
from ugro_py.experiments import code as experiment_code
from ugro_py.experiments import figures as experiment_figures
from ugro_py.experiments.diff import Difference, capsule, differences, shown

if TYPE_CHECKING:
    from ugro_py.cluster import Settings
    from ugro_py.state import JobRow, Store

JOBS_AT_MOST = 50
Better = Literal["low", "high"]
_TOTALS = ("time", "GPU hours", "GPU energy")


@dataclass(frozen=True)
class Figure:
    """One figure of all jobs, in their order; None where it is not known. `better` says which of them is best.

    `nonfinite` are the places of those that are NaN or infinite: None, but not because nothing is known.
    """

    name: str
    unit: str
    values: tuple[Any, ...]
    better: Better | None = None
    nonfinite: tuple[int, ...] = ()

    @property
    def known(self) -> bool:
        """Whether there is anything to say of any of the jobs."""
        return bool(self.nonfinite) or any(value is not None for value in self.values)

    @property
    def best(self) -> int | None:
        """The place of the job that is best; None where that means nothing, or several are."""
        known = [value for value in self.values if isinstance(value, int | float)]
        if self.better is None or len(known) < 2:
            return None
        best = min(known) if self.better == "low" else max(known)
        return self.values.index(best) if known.count(best) == 1 else None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "name": self.name, "unit": self.unit, "values": list(self.values), "best": self.best,
            "nonfinite": list(self.nonfinite),
        }  # fmt: skip


@dataclass(frozen=True)
class CodeDiff:
    """The unified diff from the first job's code to another's; None where it was not kept or may not be seen."""

    job: str
    to: str
    diff: str | None


@dataclass(frozen=True)
class Comparison:
    """Jobs side by side; the values of figures and differences are in the order of `jobs`.

    `without_capsule` are those that never started: of them only what was asked for is known.
    """

    jobs: tuple[str, ...]
    figures: tuple[Figure, ...]
    differences: tuple[Difference, ...]
    code: tuple[CodeDiff, ...] = ()
    without_capsule: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "jobs": list(self.jobs),
            "figures": [figure.to_json() for figure in self.figures],
            "differences": [row.to_json() for row in self.differences],
            "code": [vars(diff) for diff in self.code],
            "without_capsule": list(self.without_capsule),
        }


def compare(
    store: Store,
    jobs: Sequence[str],
    *,
    loss: float | None = None,
    everything: bool = False,
    code: bool = True,
    private: bool = True,
    settings: Settings | None = None,
) -> Comparison:
    """Return jobs side by side.

    Args:
        store: the state store.
        jobs: their names; one named twice counts once.
        loss: also tell when each first reached this training loss, as the mean of its ranks at a step.
        everything: also what the jobs have in common.
        code: also the unified diff of their code, where it was kept. It is the submitters' own: not for everybody.
        private: also the arguments and variables given: masked by their names alone, so not for everybody.
        settings: the cluster's, with the price of energy; without it there is no cost.

    Raises:
        NotFoundError: one of the jobs does not exist.
        UsageError: none or too many jobs, or the loss is no number.
        StateError: the database or the central store cannot be used.
    """
    names = tuple(dict.fromkeys(jobs))
    if not 1 <= len(names) <= JOBS_AT_MOST:
        raise UsageError(
            f"compare {len(names)} jobs", f"from 1 to {JOBS_AT_MOST} can be", "name jobs of `ugro results ls`"
        )
    if loss is not None and not math.isfinite(loss):
        raise UsageError(f"loss {loss}", "is not a number", "give the training loss to reach, 3.2, say")
    rows = [store.job(name) for name in names]
    found = [experiment_figures.of_job(store, name) for name in names]
    table = _figures(found, settings)
    asked = _reached(rows, loss) if loss is not None else []  # that nobody got there is an answer too
    table[2:2] = asked
    rows_shown = shown(differences(names, [row.request for row in rows]), everything)
    return Comparison(
        names,
        tuple(one for one in table if everything or one in asked or one.known),
        tuple(row for row in rows_shown if private or not row.private),
        tuple(CodeDiff(names[0], name, experiment_code.unified(names[0], name)) for name in names[1:]) if code else (),
        tuple(name for name in names if not capsule(name)),
    )


def _figures(found: Sequence[Mapping[str, Any]], settings: Settings | None) -> list[Figure]:
    began = [_of_what_was(one) for one in found]

    def row(name: str, unit: str, key: str, better: Better | None = None, inner: str | None = None) -> Figure:
        values = [one.get(key) for one in began]
        if inner is not None:
            values = [value.get(inner) if isinstance(value, Mapping) else None for value in values]
        return Figure(name, unit, tuple(values), better)

    lost = tuple(place for place, one in enumerate(began) if one.get("nonfinite_since") is not None)
    table = [
        replace(row("final loss", "", "loss_last", "low", "loss"), nonfinite=lost),
        row("best loss", "", "loss_best", "low", "loss"),
        row("step of the best loss", "", "loss_best", None, "step"),
        row("steps with a loss of NaN or infinity", "", "nonfinite_steps", "low"),
        row("NaN or infinite from step", "", "nonfinite_since"),
        row("steps", "", "steps"),
        row("time", "s", "duration_s", "low"),
        row("throughput", "tokens/s", "throughput_tokens_sec", "high"),
        row("GPU hours", "h", "gpu_hours", "low"),
        row("GPU energy", "kWh", "energy_kwh", "low"),
        row("GPU hours with a reading of power", "h", "energy_covered_h"),
        row("mean power of a GPU", "W", "gpu_power_w"),
        row("GPU utilisation", "%", "gpu_util_percent", "high"),
        row("GPU memory", "GB", "gpu_mem_gb"),
        row("CPU of the nodes", "%", "cpu_percent"),
        row("memory of the nodes", "GB", "node_mem_gb"),
        row("ranks", "", "ranks"),
        row("attempts", "", "attempts", "low"),
        row("status", "", "status"),
    ]
    if len({one.get("steps") for one in found}) > 1:
        # Who did less took less: that makes it no better.
        table = [replace(figure, better=None) if figure.name in _TOTALS else figure for figure in table]
    if settings is not None and settings.energy_price_per_kwh is not None:
        energy = next(figure for figure in table if figure.name == "GPU energy")
        costs = [None if kwh is None else round(kwh * settings.energy_price_per_kwh, 4) for kwh in energy.values]
        table.insert(
            table.index(energy) + 1,
            Figure("cost of that energy", settings.energy_currency, tuple(costs), energy.better),
        )
    return table


def _of_what_was(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures without zeros that are no achievement: of a job that never began, or has told no step."""
    never = not figures.get("attempts")
    nothing = {"attempts": never, "gpu_hours": never, "nonfinite_steps": figures.get("steps") is None}
    return {**figures, **{key: None for key, none in nothing.items() if none}}


def _reached(rows: Sequence[JobRow], loss: float) -> list[Figure]:
    found = [_first_at(row, loss) for row in rows]
    return [
        Figure(f"time to a loss of {loss:g}", "s", tuple(one[1] if one else None for one in found), "low"),
        Figure(f"step of a loss of {loss:g}", "", tuple(one[0] if one else None for one in found), "low"),
    ]


def _first_at(row: JobRow, loss: float) -> tuple[int, float | None] | None:
    """Return the first step whose loss, the mean of the ranks, is at most `loss`, and after how many seconds it was.

    Seconds count from the first start of the job, with all that was in between; to a second, as metrics.jsonl has them.
    """
    from ugro_py import series

    try:
        steps, times, means = series.open_job(row.name).told("training_loss").mean()
    except NotFoundError:
        return None  # nothing of it is in the central store
    there = (means <= loss).nonzero()[0]
    if not len(there):
        return None
    at = float(times[there[0]])
    seconds = at - row.started_at.timestamp() if row.started_at is not None else math.nan
    return int(steps[there[0]]), max(0.0, round(seconds, 1)) if math.isfinite(seconds) else None
