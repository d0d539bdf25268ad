"""The figures of a job for lists and comparisons: read once when it has ended, kept in the state database."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ugro_py import paths
from ugro_py.errors import StateError
from ugro_py.experiments import energy as experiment_energy
from ugro_py.paths import JobPaths

if TYPE_CHECKING:
    from ugro_py.results import JobResults
    from ugro_py.state import Store

SPARK = 32
"""Losses in the little curve of a list, at most."""


def of_job(store: Store, job: str) -> Mapping[str, Any]:
    """Return all figures of a job as JSON values: those kept at its end, else read now (and kept if it has ended).

    They are those of `results.JobResults.to_json`, and `gpu_hours`, `energy_kwh`, `gpu_power_w` (mean of one GPU),
    `energy_covered_h` (GPU hours that the readings of power cover) and `spark`. None stands for what is not known.

    Raises:
        NotFoundError: there is no such job.
        StateError: the database or the central store cannot be used.
    """
    return store.kept_figures(job) or read(store, job)


def read(store: Store, job: str) -> dict[str, Any]:
    """Read the figures of a job from the central store, keep them for lists, and return them.

    Raises:
        NotFoundError: there is no such job.
        StateError: the database or the central store cannot be used.
    """
    from ugro_py import results

    # The end is asked for first: where the job is resumed meanwhile, its next end has other figures.
    ended_at = store.job(job).ended_at
    return keep(store, results.summary(job, store), ended_at)


def keep(store: Store, found: JobResults, ended_at: Any) -> dict[str, Any]:
    """Keep the figures of a job, with what `results.summary` does not know, and return all of them."""
    if found.folder_gone and (kept := store.kept_figures(found.job)):
        return dict(kept)  # they were read when there was more to read
    try:
        energy = experiment_energy.measured(JobPaths(found.job))
    except OSError as error:
        came_back = error.strerror or str(error)
        raise StateError(f"read what the GPUs of {found.job} drew", came_back, "check the disk") from error
    figures: dict[str, Any] = {
        **found.to_json(),
        "gpu_hours": round(store.gpu_hours(found.job), 4),
        "energy_kwh": round(energy.kwh, 6) if energy else None,
        "gpu_power_w": round(energy.mean_w, 1) if energy else None,
        "energy_covered_h": round(energy.covered_h, 4) if energy else None,
        "spark": spark([point.loss for point in found.curve]),
    }
    figures = _clean(figures)
    store.keep_figures(
        found.job, ended_at, figures=figures, steps=figures["steps"], duration_s=figures["duration_s"],
        loss_last=_loss(figures["loss_last"]), loss_best=_loss(figures["loss_best"]), spark=figures["spark"],
        throughput_tokens_sec=figures["throughput_tokens_sec"], gpu_hours=figures["gpu_hours"],
        energy_kwh=figures["energy_kwh"],
    )  # fmt: skip
    return figures


def finish(job: str, store: Store) -> Path:
    """Keep the figures of a job that has ended and write them into its Markdown notes; return their path.

    Only the part between the two markers is UGRO's; what a person wrote around it stays, and notes without the
    markers are left alone.

    Raises:
        NotFoundError, StateError: as `read`; also when the notes cannot be written.
    """
    from ugro_py import results
    from ugro_py.experiments import notes

    ended_at = store.job(job).ended_at
    found = results.summary(job, store)
    return notes.write(found, keep(store, found, ended_at), store.tags(job), store.note(job))


def refresh_notes(job: str, store: Store) -> None:
    """Bring changed tags and a changed note into the Markdown notes of a job that has ended, where it has such notes.

    They are kept already: notes that cannot be written are an event, and no error.
    """
    if store.job(job).ended_at is None or not paths.experiment_notes(job).exists():
        return
    try:
        finish(job, store)
    except StateError as error:
        store.add_event("notes_not_written", str(error), job=job, severity="warning")


def spark(losses: Sequence[float]) -> list[float]:
    """Return at most `SPARK` losses, means of parts of equal length; those that are no number are left out."""
    found = [loss for loss in losses if math.isfinite(loss)]
    parts = min(SPARK, len(found))
    cuts = [len(found) * number // parts for number in range(parts + 1)] if parts else [0]
    # The sum of numbers that are each finite need not be, nor what is rounded up.
    means = [sum(loss / (end - start) for loss in found[start:end]) for start, end in pairwise(cuts)]
    return [mean for mean in (float(f"{mean:.5g}") for mean in means) if math.isfinite(mean)]


def _loss(point: Mapping[str, Any] | None) -> float | None:
    return point["loss"] if point else None


def _clean(value: Any) -> Any:
    """Return JSON values without what PostgreSQL refuses: NaN, infinities, NUL, halves of surrogate pairs."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {key: _clean(item) for key, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, list | tuple) else value
