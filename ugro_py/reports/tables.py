"""The metrics of several jobs as one table, in CSV or Parquet: of all the jobs only one at a time is in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ugro_py.errors import StateError
from ugro_py.paths import JobPaths

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@dataclass(frozen=True)
class _Table:
    """What the table of jobs will be, known before its first line is written.

    Attributes:
        types: of each column, in order: the jobs' columns one after the other, as they appear.
        lines: of each job, how many lines it had when it was looked at; it may run on meanwhile.
        inodes: of each job, its file of metrics: one that is written anew meanwhile may hold other lines.
        whole_seconds: no line tells parts of a second.
    """

    types: Mapping[str, Any]
    lines: Mapping[str, int]
    inodes: Mapping[str, int | None]
    whole_seconds: bool


def write_csv(jobs: Sequence[str], part: Path) -> int:
    """Write the metrics of jobs to the file `part` and return the number of lines below the header.

    Raises:
        StateError: the metrics cannot be read.
        OSError: the file cannot be written.
    """
    table = _survey(jobs)
    moment = "%Y-%m-%dT%H:%M:%SZ" if table.whole_seconds else "%Y-%m-%dT%H:%M:%S.%fZ"
    with part.open("w", encoding="utf-8", newline="") as stream:
        _sample(table).head(0).to_csv(stream, index=False, lineterminator="\n")
        for job in table.lines:  # without a name for its frame, which would live on while the next one is read
            _frame(job, table).to_csv(stream, index=False, header=False, date_format=moment, lineterminator="\n")
    return sum(table.lines.values())


def write_parquet(jobs: Sequence[str], part: Path) -> int:
    """Write the metrics of jobs to the file `part`, each as row groups of its own, and return the number of rows.

    Raises:
        StateError: the metrics cannot be read.
        OSError: the file cannot be written.
    """
    import pyarrow as pa
    from pyarrow import parquet

    table = _survey(jobs)
    schema: pa.Schema = pa.Schema.from_pandas(_sample(table), preserve_index=False)
    with parquet.ParquetWriter(part, schema, compression="zstd") as writer:
        for job in (job for job, lines in table.lines.items() if lines):
            writer.write_table(pa.Table.from_pandas(_frame(job, table), schema, preserve_index=False))
    return sum(table.lines.values())


def _survey(jobs: Sequence[str]) -> _Table:
    """Read each job once: what one column of the table is depends on all of them."""
    from ugro_py import results

    types: dict[str, Any] = {}
    lines: dict[str, int] = {}
    inodes: dict[str, int | None] = {}
    of_lines: dict[str, Any] = {}  # a job without lines has columns, but does not say what is in them
    whole_seconds = True
    for job in jobs:
        inodes[job] = _inode(job)
        frame = results.load(job)
        lines[job] = len(frame)
        for name, kind in frame.dtypes.items():
            types.setdefault(str(name), kind)
            if len(frame) and of_lines.setdefault(str(name), kind) != kind:
                of_lines[str(name)] = "float64"  # whole numbers that are not known in every line
        whole_seconds = whole_seconds and not frame["timestamp"].dt.microsecond.any()  # NaT is none
        del frame  # before the next one is read
    return _Table({**types, **of_lines}, lines, inodes, whole_seconds)


def _frame(job: str, table: _Table) -> pd.DataFrame:
    """Return the lines of a job with the columns of the table; what no number is, is text."""
    import pandas as pd

    from ugro_py import results

    frame = results.load(job)
    if _inode(job) != table.inodes[job]:
        what = "its metrics were put in order anew meanwhile, as when it is started again"
        raise StateError(f"export job {job}", what, "export once more")
    frame = frame.head(table.lines[job])
    unknown = {name: pd.Series(None, frame.index, kind) for name, kind in table.types.items() if name not in frame}
    if unknown:
        frame = pd.concat([frame, pd.DataFrame(unknown, frame.index)], axis=1)
    frame = frame[list(table.types)].astype(dict(table.types))
    for name in frame.columns:
        if frame[name].dtype == object:
            frame[name] = frame[name].map(_text)
    return frame


def _sample(table: _Table) -> pd.DataFrame:
    """Return a line of anything that has the columns of the table."""
    import pandas as pd
    from pandas.api.types import is_datetime64_any_dtype, is_numeric_dtype

    return pd.DataFrame(
        {
            name: pd.Series([0 if is_numeric_dtype(kind) or is_datetime64_any_dtype(kind) else ""], dtype=kind)
            for name, kind in table.types.items()
        }
    )


def _text(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and value != value):
        return None
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _inode(job: str) -> int | None:
    try:
        return JobPaths(job).metrics.stat().st_ino
    except FileNotFoundError:
        return None  # it has none yet
