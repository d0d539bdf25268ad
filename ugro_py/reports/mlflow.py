"""`ugro export --format mlflow`: jobs as runs of MLflow, in a local store of files or of SQLite."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ugro_py import series
from ugro_py.errors import StateError, UsageError
from ugro_py.reports.doors import refuse_missing_folder, refuse_standard_output
from ugro_py.reports.mlflow_names import Names

if TYPE_CHECKING:
    import numpy as np
    from mlflow import MlflowClient

    Array = np.ndarray[Any, Any]

EXPERIMENT = "ugro"
POINTS = 5000
"""Of each metric, where nobody asks for more: MLflow takes 50 µs for a point in files, and 150 µs in SQLite."""
_DATABASES = (".db", ".sqlite", ".sqlite3")
_NUMBERS_AT_ONCE, _WORDS_AT_ONCE = 1000, 100  # that MLflow takes in one call
_LONGEST_PARAMETER, _LONGEST_TAG = 6000, 8000  # MLflow cuts off the rest, and says nothing
_STATUS = {"completed": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
_JOB, _STATE = "ugro.job", "ugro.export"  # tags: whose run it is, and whether all of it is there
_WHOLE = "whole"
_NOTE = "note.md"  # artifacts


@dataclass(frozen=True)
class Written:
    """How many numbers were written, and how many points of metrics were left out."""

    numbers: int
    left_out: int


def write(
    jobs: Sequence[Mapping[str, Any]],
    target: Path,
    points: int | None = POINTS,
    force: bool = False,
    tell: Callable[[int], None] = lambda _numbers: None,
) -> Written:
    """Add jobs as runs to the MLflow store `target`.

    Each has what it was run with as parameters, its figures and every metric as the mean over its ranks by step, its
    tags, and as artifacts its note and all that `reports.doors.details` says of it. A run that cannot be written whole
    is left as FAILED, and goes into MLflow's trash when its job is exported again.

    Args:
        jobs: what `reports.doors.details` says of each; their metrics are in the central store.
        target: a folder, or a SQLite file where its name ends so; made where it does not exist, in a folder that does.
        points: of each metric at most; minima and maxima are kept. None: all.
        force: a job that is there already gets a new run, and the old one goes into MLflow's trash.
        tell: is called with how many numbers more are written, again and again: a million takes MLflow minutes.

    Raises:
        UsageError: MLflow is not installed, `target` is something else, its folder is missing, or a job is there
            already.
        StateError: it cannot be written.
    """
    _check(target)
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        _opens(target)
        client = _client(target)
        experiment = _experiment(client, target)
        old = {str(job["job"]): _runs_of(client, experiment, str(job["job"])) for job in jobs}
        there = [name for name, runs in old.items() if _WHOLE in runs.values()]
        if there and not force:
            what = f"export {', '.join(there)} to {target}"
            raise UsageError(what, "it is there already", "give --force: the run there goes into MLflow's trash")
        found = []
        for job in jobs:
            found.append(_write_run(client, experiment, job, points, tell))
            for run in old[str(job["job"])]:
                client.delete_run(run)
        return Written(sum(one.numbers for one in found), sum(one.left_out for one in found))
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        came_back = str(error).strip().split("\n")[0]  # SQLAlchemy adds its statement, with all of its numbers
        advice = "check it and the disk; a run that was begun is marked FAILED, and the next export replaces it"
        raise StateError(f"write to the MLflow store {target}", came_back, advice) from error


def _check(target: Path) -> None:
    refuse_standard_output(target)
    try:
        refuse_missing_folder(target)
        there = target.exists()
    except OSError as error:  # a folder that may not be entered, a name that is too long
        raise StateError(f"write to {target}", error.strerror or str(error), "check the folder") from error
    if there and target.is_dir() == _is_database(target):
        advice = "name a folder for MLflow's file store, or a file that ends in .db for its SQLite store"
        raise UsageError(f"export to {target}", f"it is a {'folder' if target.is_dir() else 'file'}", advice)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # what people train is nobody's business
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow 3 asks for this word
    try:
        import mlflow  # noqa: F401
    except ImportError as error:
        raise UsageError("export to MLflow", "it is not installed", "run `pip install 'ugro[mlflow]'`") from error


def _opens(target: Path) -> None:
    """See to it that a database can be opened: MLflow tries for minutes, and prints each of its errors."""
    if _is_database(target):
        with closing(sqlite3.connect(target)) as connection:
            connection.execute("PRAGMA schema_version")


def _is_database(target: Path) -> bool:
    return target.suffix.lower() in _DATABASES


def _client(target: Path) -> MlflowClient:
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):  # they would tell of the tables they make
        logging.getLogger(name).setLevel(logging.WARNING)
    where = target.resolve()
    return MlflowClient(tracking_uri=f"sqlite:///{where}" if _is_database(target) else where.as_uri())


def _experiment(client: MlflowClient, target: Path) -> str:
    """Return the id of UGRO's experiment; artifacts of a database lie in a folder beside it."""
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    beside = target.resolve().with_name(f"{target.stem}_artifacts").as_uri()
    return str(client.create_experiment(EXPERIMENT, beside if _is_database(target) else None))


def _runs_of(client: MlflowClient, experiment: str, job: str) -> dict[str, str]:
    """Return the runs of a job that are there, and of each whether it is whole."""
    found = client.search_runs([experiment], f"tags.`{_JOB}` = '{job}'")
    return {run.info.run_id: run.data.tags.get(_STATE, _WHOLE) for run in found}


def _write_run(
    client: MlflowClient, experiment: str, job: Mapping[str, Any], points: int | None, tell: Callable[[int], None]
) -> Written:
    from mlflow.entities import Metric

    results = job["results"]
    run = client.create_run(
        experiment, start_time=_ms(results.get("started_at")), run_name=job["job"],
        tags={_JOB: job["job"], _STATE: "being written"},
    ).info.run_id  # fmt: skip
    with _failed_unless_whole(client, run):
        _describe(client, run, job)
        names = Names()
        at = _ms(results.get("ended_at")) or _ms(results.get("started_at")) or 0
        figures = [
            Metric(names.of(f"the figure {key}", f"final.{key}"), value, at, 0) for key, value in _figures(results)
        ]
        client.log_batch(run, metrics=figures)
        told = series.open_job(str(job["job"]))
        count, left_out = len(figures), 0
        for column in told.columns:
            steps, times, means, without = thinned(*told.told(column).mean(), points)
            name = names.of(column)
            for start in range(0, len(steps), _NUMBERS_AT_ONCE):  # a million numbers as objects take 0.2 GB
                part = slice(start, start + _NUMBERS_AT_ONCE)
                moments = [max(0, int(moment * 1000)) if moment == moment else 0 for moment in times[part].tolist()]
                numbers = zip(means[part].tolist(), moments, steps[part].tolist(), strict=True)
                client.log_batch(run, metrics=[Metric(name, *number) for number in numbers])
                tell(len(moments))
            count, left_out = count + len(steps), left_out + without
        _tag(client, run, {f"ugro.name.{name}": _clean(thing) for name, thing in names.changed()})
        _tag(client, run, {"ugro.points_left_out": str(left_out)})
        if results.get("status") in _STATUS:
            client.set_terminated(run, _STATUS[results["status"]], end_time=_ms(results.get("ended_at")))
        client.set_tag(run, _STATE, _WHOLE)
    return Written(count, left_out)


@contextmanager
def _failed_unless_whole(client: MlflowClient, run: str) -> Iterator[None]:
    """See to it that a run of which not all could be written is not taken for one that still runs, or for whole."""
    from mlflow.exceptions import MlflowException

    whole = False
    try:
        yield
        whole = True
    finally:
        if not whole:  # also where somebody pressed Ctrl-C
            with suppress(MlflowException, OSError):  # the first error is the one to tell
                client.set_terminated(run, "FAILED")
                client.set_tag(run, _STATE, "failed: not all of it is here")


def _describe(client: MlflowClient, run: str, job: Mapping[str, Any]) -> None:
    """Write what a job was run with, its tags and its note; what MLflow would cut is whole in the artifacts."""
    from mlflow.entities import Param

    names = Names()
    parameters = []
    for section in ("hyper-parameters", "code", "hardware"):
        for key, value in job["run_with"].get(section, {}).items():
            if value is not None:
                name = key.lstrip("-") if section == "hyper-parameters" else f"{section}.{key}"
                parameters.append(Param(names.of(f"{section} {key}", name), _clean(str(value))[:_LONGEST_PARAMETER]))
    for start in range(0, len(parameters), _WORDS_AT_ONCE):
        client.log_batch(run, params=parameters[start : start + _WORDS_AT_ONCE])
    tagged = Names()
    tags = {"ugro.status": str(job["results"].get("status")), "ugro.tags": " ".join(job["tags"])}
    tags |= {f"ugro.tag.{tagged.of(tag)}": tag for tag in job["tags"]}
    if note := _clean(job["note"]):
        cut = f"\n\n… (cut here: the whole note is the artifact {_NOTE})"
        tags["mlflow.note.content"] = note if len(note) <= _LONGEST_TAG else note[: _LONGEST_TAG - len(cut)] + cut
        client.log_text(run, note, _NOTE)
    if commit := job["run_with"].get("code", {}).get("git commit"):
        tags["mlflow.source.git.commit"] = str(commit)
    _tag(client, run, tags)
    client.log_text(run, json.dumps(job, indent=2), "ugro.json")


def _tag(client: MlflowClient, run: str, tags: Mapping[str, str]) -> None:
    from mlflow.entities import RunTag

    found = [RunTag(name, text) for name, text in tags.items()]
    for start in range(0, len(found), _WORDS_AT_ONCE):
        client.log_batch(run, tags=found[start : start + _WORDS_AT_ONCE])


def _figures(results: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for key, value in results.items():
        number = value.get("loss") if isinstance(value, Mapping) else value
        if isinstance(number, int | float) and not isinstance(number, bool):
            yield key, float(number)


def thinned(steps: Array, times: Array, values: Array, points: int | None) -> tuple[Array, Array, Array, int]:
    """Return at most `points` of the points that are finite numbers, and how many of those were left out.

    They are points as they were told: the first, the last, and of parts of equal length the least and the greatest.
    """
    import numpy as np

    known = np.flatnonzero(np.isfinite(values))
    kept = known
    if points is not None and len(known) > points:
        cuts = np.linspace(0, len(known), max(1, points // 2 - 1) + 1).astype(np.int64)
        parts = [known[start:end] for start, end in pairwise(cuts.tolist())]
        extremes = [part[find(values[part])] for part in parts for find in (np.argmin, np.argmax)]
        kept = np.unique([known[0], *extremes, known[-1]])
    return steps[kept], times[kept], values[kept], len(known) - len(kept)


def _clean(text: str) -> str:
    """Return text that any file and database takes."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def _ms(at: str | None) -> int | None:
    return int(datetime.fromisoformat(at).timestamp() * 1000) if at else None
