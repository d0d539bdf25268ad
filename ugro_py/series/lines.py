"""From lines of `metrics.jsonl` to columns: fast where they are as UGRO writes them, tolerant where they are not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ugro_py import metrics
from ugro_py.series.arrays import are_known, column_of, numbers, texts

if TYPE_CHECKING:
    import pyarrow as pa

MOST_COLUMNS = 256
"""Of a job, more kinds of numbers than this stay in the text column `other`: a script may invent one at each step."""

# Of a line that holds more than numbers, so much is kept in the column `other`; all of it is in the file.
_LONGEST_OTHER = 1 << 16
# A block that is not all as expected is taken apart into pieces of this size, so that one line costs little.
_PIECE = 1 << 18
_WHOLE = ("attempt", "rank", "step")
_OWN = ("timestamp", "job_id", *_WHOLE, "nonfinite", "other")
_NEWLINE, _OPEN, _CLOSE = b"\n{}"
# Of lines that hold braces within: what follows an object is in none, or is another object in the same line.
_BEGINS = re.compile(rb"\s*\{")
_NO_OBJECT = re.compile(rb"\}(?:\s*[^\s,}\]{]|[ \t\r]*\{)")


class MetricLines:
    """A parser of `series.twin.Twin` for metrics. It learns the names of numbers as they come.

    Columns: `timestamp` (UTC, microseconds), `attempt`, `rank`, `step`, then every number as float64: null where a line
    does not tell it, NaN where it says that the number is none; `nonfinite` and `other` (text) where they are needed:
    the names of such numbers, and what a line holds besides numbers, as JSON.
    """

    def __init__(self) -> None:
        self._names: dict[str, None] = dict.fromkeys(name for name in metrics.FIELDS if name not in _OWN)
        self._nonfinite = False  # whether any line was seen that has it: to look for it in each block takes long

    def learn(self, names: Iterable[str]) -> None:
        """Take note of the columns that earlier lines have: they count too."""
        self._names |= dict.fromkeys(name for name in names if name not in _OWN)

    def __call__(self, data: bytearray) -> tuple[pa.RecordBatch, int]:
        """Return the columns of whole lines and how many lines are no JSON object."""
        import pyarrow as pa

        self._learn_from(data)
        batch = self._fast(data)
        if batch is not None:
            return batch, 0
        broken, parts = 0, []
        for piece in _pieces(data):
            part = self._fast(piece) if len(piece) < len(data) else None
            if part is None:
                part, wrong = self._slow(piece)
                broken += wrong
            parts.append(part)
        if len(parts) == 1:
            return parts[0], broken
        tables = pa.concat_tables([pa.Table.from_batches([part]) for part in parts], promote_options="default")
        whole = tables.combine_chunks().to_batches()
        return (whole[0] if whole else parts[0]), broken

    def _fast(self, data: bytearray) -> pa.RecordBatch | None:
        """Return the columns, or None where anything is not as expected: a damaged line, an unknown name, a text."""
        import pyarrow as pa
        from pyarrow import json as arrow_json

        lines, nonfinite = _lines_of_objects(data), self._nonfinite
        if not lines:
            return None
        schema = pa.schema(
            [
                ("timestamp", pa.timestamp("us", "UTC")), ("job_id", pa.string()), ("attempt", pa.int32()),
                ("rank", pa.int32()), ("step", pa.int64()), *((name, pa.float64()) for name in list(self._names)),
                *([("nonfinite", pa.list_(pa.string()))] if nonfinite else []),
            ]
        )  # fmt: skip
        try:
            table = arrow_json.read_json(
                pa.BufferReader(pa.py_buffer(data)),
                read_options=arrow_json.ReadOptions(use_threads=False, block_size=max(1 << 10, len(data))),
                parse_options=arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error"),
            )
        except (pa.ArrowException, ValueError):  # UnicodeDecodeError is one of the latter
            if nonfinite or b'"nonfinite"' not in data:
                return None
            self._nonfinite = True
            return self._fast(data)
        if table.num_rows != lines:
            return None  # two objects in a line, or one over two: neither is a line of metrics
        return _with_nonfinite(table.drop_columns(["job_id"]), self._is_column)

    def _learn_from(self, data: bytearray) -> None:
        """Take note of the numbers of the first line, for a block with an unknown name is taken apart."""
        line = metrics.parse(bytes(data[: min(data.find(b"\n") + 1 or len(data), _PIECE)])) or {}
        for name, value in line.items():
            if isinstance(value, int | float):
                self._is_column(name)

    def _slow(self, data: bytearray) -> tuple[pa.RecordBatch, int]:
        """Return the columns, line by line, and the number of lines that are no JSON object."""
        import pyarrow as pa

        rows: list[dict[str, Any]] = []
        broken = 0
        numbers: dict[str, dict[int, float]] = {name: {} for name in list(self._names)}
        for raw in data.split(b"\n"):
            if not raw.strip():
                continue
            line = metrics.parse(bytes(raw))
            if line is None:
                broken += 1
                continue
            rows.append(self._row(line, len(rows), numbers))
        arrays = {"timestamp": pa.array([row["timestamp"] for row in rows], pa.timestamp("us", "UTC"))}
        for name, kind in (("attempt", pa.int32()), ("rank", pa.int32()), ("step", pa.int64())):
            arrays[name] = pa.array([row[name] for row in rows], kind)
        for name, told in numbers.items():
            arrays[name] = pa.array([told.get(index) for index in range(len(rows))], pa.float64())
        for name, kind in (("nonfinite", pa.list_(pa.string())), ("other", pa.string())):
            if any(row[name] for row in rows):
                arrays[name] = pa.array([row[name] for row in rows], kind)
        return _with_nonfinite(pa.table(arrays), self._is_column), broken

    def _row(self, line: dict[str, Any], index: int, numbers: dict[str, dict[int, float]]) -> dict[str, Any]:
        """Return what a line says besides its numbers, which are put into `numbers`."""
        row: dict[str, Any] = {"timestamp": _moment(line.get("timestamp")), "nonfinite": _names(line.get("nonfinite"))}
        other: dict[str, Any] = {}
        for name in _WHOLE:
            value = line.get(name)
            bits = 63 if name == "step" else 31
            row[name] = value if type(value) is int and abs(value) < 1 << bits else None
        for name, value in line.items():
            if name in ("timestamp", "nonfinite", *_WHOLE):
                if value is not None and row[name] is None:
                    other[name] = value
            elif isinstance(value, int | float) and self._is_column(name):
                try:
                    numbers.setdefault(name, {})[index] = float(value)
                except OverflowError:
                    other[name] = value
            elif value is not None and name != "job_id":
                other[name] = value
        text = json.dumps(other) if other else None
        row["other"] = text if text is None or len(text) <= _LONGEST_OTHER else json.dumps({"left_out": len(text)})
        return row

    def _is_column(self, name: str) -> bool:
        if name not in self._names:
            if len(self._names) >= MOST_COLUMNS or not _is_name(name):
                return False
            self._names[name] = None
        return True


def _lines_of_objects(data: bytearray) -> int:
    """Return the number of lines if nothing but objects is in them outside of objects, and no two in one; else 0.

    Arrow's parser ends the process where a line is `null`, and must not get to see one.
    """
    import numpy as np

    text = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(text == _NEWLINE)
    if not len(ends):
        return 0
    closes = np.count_nonzero(text == _CLOSE) == len(ends) and bool((text[ends - 1] == _CLOSE).all())
    opens = text[0] == _OPEN and bool((text[ends[:-1] + 1] == _OPEN).all()) and ends[-1] == len(text) - 1
    if closes and opens:  # no brace is closed but at the end of a line, and what follows is the next line's object
        return len(ends)
    return len(ends) if _BEGINS.match(data) and not _NO_OBJECT.search(data) else 0


def _pieces(data: bytearray) -> Iterator[bytearray]:
    start = 0
    while start < len(data):
        end = data.find(b"\n", start + _PIECE) + 1 or len(data)
        yield data[start:end]
        start = end


def _with_nonfinite(table: pa.Table, is_column: Callable[[str], bool]) -> pa.RecordBatch:
    """Return the table with NaN where `nonfinite` names a number that has a column, and the names as text."""
    import pyarrow as pa

    names = table["nonfinite"].combine_chunks() if "nonfinite" in table.column_names else None
    if names is not None:
        table = table.drop_columns(["nonfinite"])
    if names is not None and names.null_count < len(names):
        import numpy as np
        import pyarrow.compute as pc

        rows = numbers(pa.chunked_array([pc.list_parent_indices(names)]))
        here: dict[str, list[int]] = {}
        for row, name in zip(rows.tolist(), pc.list_flatten(names).to_pylist(), strict=True):
            if is_column(name):
                here.setdefault(name, []).append(row)
        for name, places in here.items():
            index = table.schema.get_field_index(name)
            values = numbers(table[index]) if index >= 0 else np.zeros(len(table))
            known = are_known(table[index]) if index >= 0 else np.zeros(len(table), bool)
            values[places] = np.nan
            if known is not None:
                known[places] = True
            column = column_of(values, known)
            table = table.set_column(index, name, column) if index >= 0 else table.append_column(name, column)
        named = [listed and ",".join(name for name in listed if name) for listed in names.to_pylist()]
        table = table.append_column("nonfinite", texts(named))
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def _is_name(name: object) -> bool:
    return isinstance(name, str) and 0 < len(name) <= 64 and name.isprintable() and name not in _OWN


def _names(value: object) -> list[str] | None:
    """Return the names in `nonfinite`, or None where it holds anything else."""
    listed = isinstance(value, list) and value and all(isinstance(name, str) and name.isprintable() for name in value)
    return value if listed else None  # type: ignore[return-value]


def _moment(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
