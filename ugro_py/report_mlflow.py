"""`ugro export --format mlflow`: jobs as runs of MLflow, in its local file store."""

from __future__ import annotations

import math
import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ugro_py import series
from ugro_py.errors import StateError, UsageError

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "ugro"
_AT_ONCE = 1000  # numbers that MLflow takes in one call
_LONGEST = 500
_STATUS = {"completed": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}


def write(jobs: Sequence[Mapping[str, Any]], target: Path) -> int:
    """Add jobs as runs to the MLflow file store in the folder `target` and return how many numbers that were.

    Each has what it was run with as parameters, its figures and every metric as the mean over its ranks by step, and
    its tags. A job that was exported before gets another run.

    Args:
        jobs: what `report_doors.details` says of each; their metrics are in the central store.
        target: the folder; made where it does not exist.

    Raises:
        UsageError: MLflow is not installed, or `target` is a file.
        StateError: it cannot be written.
    """
    client = _client(target)
    from mlflow.exceptions import MlflowException

    try:
        found = client.get_experiment_by_name(EXPERIMENT)
        experiment = found.experiment_id if found else client.create_experiment(EXPERIMENT)
        return sum(_write_run(client, experiment, job) for job in jobs)
    except (MlflowException, OSError) as error:
        raise StateError(f"write to the MLflow store {target}", str(error), "check the folder and the disk") from error


def _client(target: Path) -> MlflowClient:
    if target.exists() and not target.is_dir():
        raise UsageError(f"export to {target}", "it is a file", "name a folder for MLflow's store")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # what people train is nobody's business
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow 3 asks for this word
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise UsageError("export to MLflow", "it is not installed", "run `pip install 'ugro[mlflow]'`") from error
    return MlflowClient(tracking_uri=target.resolve().as_uri())


def _write_run(client: MlflowClient, experiment: str, job: Mapping[str, Any]) -> int:
    from mlflow.entities import Metric, Param, RunTag

    results = job["results"]
    run = client.create_run(experiment, start_time=_ms(results.get("started_at")), run_name=job["job"]).info.run_id
    tags = [RunTag("ugro.job", job["job"]), RunTag("ugro.status", str(results.get("status")))]
    tags += [RunTag(f"ugro.tag.{_tag(tag)}", "true") for tag in job["tags"]]
    if job["note"]:
        tags.append(RunTag("mlflow.note.content", job["note"]))
    if commit := job["run_with"].get("code", {}).get("git commit"):
        tags.append(RunTag("mlflow.source.git.commit", str(commit)))
    used: set[str] = set()
    client.log_batch(run, params=[Param(key, value) for key, value in _parameters(job, used)], tags=tags)
    count = 0
    at = _ms(results.get("ended_at")) or _ms(results.get("started_at")) or 0
    batch = [Metric(f"final.{key}", value, at, 0) for key, value in _figures(results)]
    for name, step, moment, value in _numbers(str(job["job"])):
        batch.append(Metric(name, value, moment, step))
        if len(batch) >= _AT_ONCE:
            client.log_batch(run, metrics=batch)
            count, batch = count + len(batch), []
    client.log_batch(run, metrics=batch)
    if results.get("status") in _STATUS:
        client.set_terminated(run, _STATUS[results["status"]], end_time=_ms(results.get("ended_at")))
    return count + len(batch)


def _parameters(job: Mapping[str, Any], used: set[str]) -> Iterator[tuple[str, str]]:
    """Yield what a job was run with, by names that MLflow takes, each once."""
    for section in ("hyper-parameters", "code", "hardware"):
        for key, value in job["run_with"].get(section, {}).items():
            name = _name(key if section == "hyper-parameters" else f"{section}.{key}")
            if value is not None and name not in used:
                used.add(name)
                yield name, str(value)[:_LONGEST]


def _figures(results: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for key, value in results.items():
        number = value.get("loss") if isinstance(value, Mapping) else value
        if isinstance(number, int | float) and not isinstance(number, bool):
            yield key, float(number)


def _numbers(job: str) -> Iterator[tuple[str, int, int, float]]:
    """Yield (name, step, Unix ms, mean over the ranks) of every metric; what is no number is left out."""
    found = series.open_job(job)
    for column in found.columns:
        steps, times, means = found.told(column).mean()
        for step, at, mean in zip(steps.tolist(), times.tolist(), means.tolist(), strict=True):
            if math.isfinite(mean):
                yield _name(column), step, int(at * 1000) if math.isfinite(at) else 0, mean


def _name(text: str) -> str:
    """Return a name that MLflow takes: letters, digits, `_ - . / space`; nothing that leads out of its folder."""
    plain = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_-. ") else "_" for letter in text)
    return plain.lstrip(".- ").strip()[:200] or "_"


def _tag(tag: str) -> str:
    """Return a tag as a part of a name that MLflow takes: it refuses what as a path would be another one."""
    plain = tag.replace("=", "-").replace(":", "-")
    return plain if posixpath.normpath(plain) == plain else plain.replace("/", "_")


def _ms(at: str | None) -> int | None:
    return int(datetime.fromisoformat(at).timestamp() * 1000) if at else None
