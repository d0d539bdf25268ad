"""`ugro export` to files that other programs read: CSV, Parquet and JSON."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ugro_py.errors import StateError, UsageError
from ugro_py.paths import JobPaths
from ugro_py.reports import tables
from ugro_py.reports.doors import replacing

FORMATS = ("csv", "parquet", "json", "mlflow")


def format_of(target: Path, wanted: str | None) -> str:
    """Return the format that is asked for, or that the name of the target tells.

    Raises:
        UsageError: neither says it.
    """
    found = wanted or target.suffix.removeprefix(".").lower()
    if found not in FORMATS:
        raise UsageError(f"export to {target}", "its name tells no format", f"give --format {'|'.join(FORMATS)}")
    return found


def write(jobs: Sequence[Mapping[str, Any]], target: Path, kind: str, force: bool = False) -> int:
    """Write the metrics of jobs to `target` and return how many lines that were.

    CSV and Parquet have the columns of `results.load`, with the jobs one after the other (`job_id`). JSON has for each
    job its figures, tags, note, and what it was run with too.

    Args:
        jobs: what `reports.doors.details` says of each; their metrics are in the central store.
        target: the file; `-` is standard output, for csv and json.
        kind: csv, parquet or json.
        force: replace a file that is there.

    Raises:
        UsageError: there is something at `target`.
        StateError: the metrics cannot be read, or the file cannot be written.
    """
    with _standard_output() if goes_to_standard_output(target, kind) else replacing(target, force) as part:
        if kind == "json":
            return _write_json(jobs, part)
        names = [str(job["job"]) for job in jobs]
        return tables.write_csv(names, part) if kind == "csv" else tables.write_parquet(names, part)


def goes_to_standard_output(target: Path, kind: str) -> bool:
    """Say whether the export is for the next program of a pipe: what is no text is for files alone."""
    return str(target) == "-" and kind in ("csv", "json")


@contextmanager
def _standard_output() -> Iterator[Path]:
    """Give a file to write; it goes to standard output when all of it is there."""
    with tempfile.TemporaryDirectory(prefix="ugro-") as folder:
        part = Path(folder) / "export"
        try:
            yield part
        except OSError as error:
            raise StateError(f"write {part}", error.strerror or str(error), "make room in TMPDIR") from error
        with part.open("rb") as stream:
            shutil.copyfileobj(stream, sys.stdout.buffer)


def _write_json(jobs: Sequence[Mapping[str, Any]], part: Path) -> int:
    """Write one object, `{"jobs": [...]}`, line by line: the metrics of a long job are never in memory as a whole."""
    lines = 0
    with part.open("w", encoding="utf-8") as stream:
        stream.write('{"jobs": [\n')
        for place, job in enumerate(jobs):
            head = json.dumps(_finite(job))
            stream.write(f"{',' if place else ''}{head[:-1]}, {json.dumps('metrics')}: [")
            lines += _write_metrics(str(job["job"]), stream)
            stream.write("]}\n")
        stream.write("]}\n")
    return lines


def _write_metrics(job: str, stream: IO[str]) -> int:
    count, encode = 0, json.JSONEncoder(allow_nan=False).encode
    for line in _lines(JobPaths(job)):
        try:
            text = encode(line)
        except ValueError:  # to look at each number of each line takes longer than all the rest
            text = encode(_finite(line))
        stream.write(f"{',' if count else ''}\n{text}")
        count += 1
    return count


def _lines(paths: JobPaths) -> Iterator[dict[str, Any]]:
    """Yield the lines of a job; what cannot be read is not taken for what cannot be written."""
    from ugro_py import metrics

    try:
        yield from metrics.read(paths)
    except OSError as error:
        raise StateError(f"read {paths.metrics}", error.strerror or str(error), "check the disk") from error


def _finite(value: Any) -> Any:
    """Return JSON values without NaN and infinities, which are no JSON: null instead."""
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
