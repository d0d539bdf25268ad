"""An experiment as the list of all of them has it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from ugro_py.moments import iso


class ExperimentRow(NamedTuple):
    """A job in the list. Times are aware; figures that are not known (yet) are None. A tuple: thousands are made.

    Attributes:
        note: all of it; `experiments.ls` leaves its first line.
        duration_s: until the end, None while the job has not ended; `experiments.ls` tells it until now.
        loss_last, loss_best: the mean over ranks at the last step, and the lowest there was.
        nonfinite_since: the step from which on every loss is NaN or infinite, and so there is no `loss_last`.
        gpu_hours: a CPU slot counts as a GPU.
        energy_kwh: what the GPUs drew by their own reading.
        spark: at most 32 losses, evenly over the steps.
        figures_at: when the figures were read; None: never.
        final: whether they are those of the end of the job.
    """

    job: str
    status: str
    reason: str
    user: str
    model: str | None
    dataset: str | None
    tags: tuple[str, ...]
    note: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    duration_s: float | None
    steps: int | None
    loss_last: float | None
    loss_best: float | None
    throughput_tokens_sec: float | None
    gpu_hours: float | None
    energy_kwh: float | None
    spark: tuple[float, ...]
    figures_at: datetime | None
    final: bool
    nonfinite_since: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what is listed of it as JSON values."""
        values = self._asdict() | {"tags": list(self.tags), "spark": list(self.spark)}
        values |= {key: iso(values[key]) for key in ("created_at", "started_at", "ended_at")}
        return {key: value for key, value in values.items() if key not in ("figures_at", "final")}


def experiment_row(row: Any, tags: tuple[str, ...]) -> ExperimentRow:
    """Return it from a row of the list's query."""
    spark = row.spark if isinstance(row.spark, list) else ()
    return ExperimentRow(
        row.name, row.status, row.reason, row.user, row.model, row.dataset, tags, row.note or "", row.created_at,
        row.started_at, row.ended_at, row.duration_s, row.steps, row.loss_last, row.loss_best,
        row.throughput_tokens_sec, row.gpu_hours, row.energy_kwh, tuple(spark), row.figures_at,
        row.ended_at is not None and row.figures_of == row.ended_at, (row.figures or {}).get("nonfinite_since"),
    )  # fmt: skip
