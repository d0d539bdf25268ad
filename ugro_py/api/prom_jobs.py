"""Figures of jobs for Prometheus: those that run, those that wait, those that failed lately. None of all time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from statistics import quantiles
from typing import TYPE_CHECKING, Any

from prometheus_client.core import GaugeMetricFamily, SummaryMetricFamily

from ugro_py.paths import JobPaths
from ugro_py.state.models import JOB_STATUSES
from ugro_py.status import newest_metrics

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from ugro_py.state import JobRow, Store

MOST_JOBS = 100
"""So many running jobs have figures of their own, the newest; a label for every job ever would fill Prometheus."""
_MOST_FAILED = 50
_FAILED_FOR = timedelta(days=1)
_RECENT = 100
_LONGEST = 100  # characters of a label that a user chose
_RUN = ("starting", "running", "collecting")
# Prometheus has a label `job` of its own: whom it scraped.
_JOB = ["ugro_job"]


def jobs(store: Store, still: Mapping[str, int]) -> Iterator[Metric]:
    """Yield the figures of jobs.

    Args:
        store: the state store.
        still: job -> how many of its ranks stand still.

    Raises:
        StateError: the database cannot be used.
    """
    active = store.jobs(active=True)
    ended = store.jobs(active=False, limit=_RECENT)
    counts = store.job_counts()
    by_status = GaugeMetricFamily("ugro_jobs", "Jobs by status.", labels=["status"])
    for status in JOB_STATUSES:
        by_status.add_metric([status], counts.get(status, 0))
    yield by_status
    yield from _queue(active, ended)
    yield from _failed(ended)
    running = [job for job in active if job.status in _RUN]
    left_out = max(0, len(running) - MOST_JOBS)
    yield GaugeMetricFamily("ugro_jobs_left_out", "Running jobs that have no figures of their own.", value=left_out)
    yield from _running(store, running[:MOST_JOBS], still)


def _queue(active: Sequence[JobRow], ended: Sequence[JobRow]) -> Iterator[Metric]:
    now = datetime.now(UTC)
    waiting = [job for job in active if job.status == "pending"]
    waits = [(now - job.created_at).total_seconds() for job in waiting]
    yield GaugeMetricFamily("ugro_queue_length", "Jobs that wait.", value=len(waits))
    yield GaugeMetricFamily(
        "ugro_queue_wait_seconds_max",
        "How long the job that waits longest has waited.",
        value=max(waits, default=0.0),
    )
    # Neither who is held, nor who waits for other jobs, nor who ran before and waits again is being starved.
    due = [(now - job.created_at).total_seconds() for job in waiting if not (job.held or job.after or job.started_at)]
    yield GaugeMetricFamily(
        "ugro_queue_starved_seconds",
        "How long the job has waited that waits longest for nothing but GPUs.",
        value=max(due, default=0.0),
    )
    held = GaugeMetricFamily("ugro_queue_jobs", "Jobs that wait, and whether somebody holds them.", labels=["state"])
    held.add_metric(["held"], sum(job.held for job in waiting))
    held.add_metric(["waiting"], sum(not job.held for job in waiting))
    yield held
    past = [
        (job.started_at - job.created_at).total_seconds()
        for job in (*active, *ended)
        if job.started_at is not None
    ]  # fmt: skip
    # No sum and no count: those count up for ever, and this is of the newest jobs alone.
    recent = SummaryMetricFamily("ugro_queue_wait_seconds", "How long the newest jobs waited until they ran.")
    if past:
        cuts = quantiles([*past, *past] if len(past) == 1 else past, n=100, method="inclusive")
        for quantile in (50, 90, 99):
            recent.add_sample(recent.name, {"quantile": str(quantile / 100)}, cuts[quantile - 1])
    yield recent


def _failed(ended: Sequence[JobRow]) -> Iterator[Metric]:
    failed = GaugeMetricFamily(
        "ugro_job_failed_timestamp_seconds", "When a job of the last day failed.", labels=[*_JOB, "user"]
    )
    since = datetime.now(UTC) - _FAILED_FOR
    rows = [job for job in ended if job.status == "failed" and job.ended_at is not None and job.ended_at > since]
    for job in rows[:_MOST_FAILED]:
        assert job.ended_at is not None
        failed.add_metric([job.name, job.user[:_LONGEST]], job.ended_at.timestamp())
    yield failed


def _running(store: Store, running: Sequence[JobRow], still: Mapping[str, int]) -> Iterator[Metric]:
    def family(name: str, text: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"ugro_job_{name}", text, labels=[*_JOB, *labels])

    info = family("info", "A job that runs: 1.", "user", "status", "model", "dataset")
    started = family("started_timestamp_seconds", "When a job first ran.")
    ranks = family("ranks", "Ranks of a job by status.", "status")
    frozen = family("ranks_standing_still", "Ranks that are stopped, or neither compute nor write while others do.")
    newest = family("metrics_timestamp_seconds", "When a rank of the job last reported metrics.")
    figures = {
        "step": family("step", "The last step that any rank reported."),
        "total_steps": family("total_steps", "How many steps there will be."),
        "training_loss": family("loss", "The training loss, the mean over ranks; NaN where one has none."),
        "throughput_tokens_sec": family("throughput_tokens_per_second", "Tokens a second, of all ranks together."),
        "learning_rate": family("learning_rate", "The learning rate."),
        "gradient_norm": family("gradient_norm", "The norm of the gradient."),
    }
    of_jobs = store.ranks_of([job.name for job in running])
    for job in running:
        words = [str(job.request.get(key) or "")[:_LONGEST] for key in ("model", "dataset")]
        info.add_metric([job.name, job.user[:_LONGEST], job.status, *words], 1)
        if job.started_at is not None:
            started.add_metric([job.name], job.started_at.timestamp())
        for status, count in sorted(Counter(rank.status for rank in of_jobs[job.name]).items()):
            ranks.add_metric([job.name, status], count)
        frozen.add_metric([job.name], still.get(job.name, 0))
        try:
            lines = list(newest_metrics(JobPaths(job.name), {rank.rank for rank in of_jobs[job.name]}).values())
        except OSError:
            continue  # its folder cannot be read: the others' figures are none the worse
        for key, value in figures_of(lines).items():
            if key in figures:
                figures[key].add_metric([job.name], value)
        times = [moment for line in lines if (moment := _seconds(line.get("timestamp"))) is not None]
        if times:
            newest.add_metric([job.name], max(times))
    yield from (info, started, ranks, frozen, newest, *figures.values())


def figures_of(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return a job's figures from the newest line of each rank; of what no rank tells there is none."""
    attempt = max((line["attempt"] for line in lines if isinstance(line.get("attempt"), int)), default=None)
    found: dict[str, float] = {}
    now = [line for line in lines if line.get("attempt") == attempt]
    for key in ("step", "total_steps", "training_loss", "throughput_tokens_sec", "learning_rate", "gradient_norm"):
        values = [_number(line, key) for line in now]
        told = [value for value in values if value is not None]
        if not told:
            continue
        if key == "throughput_tokens_sec":
            found[key] = sum(told)
        elif key == "training_loss":
            found[key] = sum(told) / len(told)
        else:
            found[key] = max(told)
    return found


def _number(line: Mapping[str, Any], key: str) -> float | None:
    value = line.get(key)
    if value is None and key in (line.get("nonfinite") or ()):
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:  # a script may report any whole number
        return math.inf


def _seconds(timestamp: object) -> float | None:
    try:
        return datetime.fromisoformat(timestamp).timestamp() if isinstance(timestamp, str) else None
    except ValueError:
        return None
