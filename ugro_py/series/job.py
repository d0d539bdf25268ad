"""A job's metrics and what its nodes measured, as columns: a million lines open at once (docs/series.md)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from ugro_py import metrics
from ugro_py.errors import NotFoundError
from ugro_py.names import check_name
from ugro_py.paths import JobPaths
from ugro_py.series.arrays import are_known, column_of, flags, numbers
from ugro_py.series.chart import Chart, Told, chart
from ugro_py.series.lines import MetricLines
from ugro_py.series.named import some_of
from ugro_py.series.samples import Samples
from ugro_py.series.twin import Chunk, Twin, side_by_side

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

SEED = tuple(name for name in metrics.FIELDS if name not in ("timestamp", "job_id", "attempt", "rank", "step"))
"""The numbers that every line of metrics has, null where they are not known."""

# Names that mean something else in a table.
_TAKEN = ("time", "node")


class Series:
    """What `metrics.jsonl` of a job held when this was opened; numbers are read when they are asked for."""

    def __init__(self, paths: JobPaths) -> None:
        self.job = paths.job
        self._paths = paths
        self._twin = Twin(paths.metrics, paths.series(paths.metrics), MetricLines())
        self._twin.refresh()
        self._chunks: list[Chunk] = [chunk for chunk in self._twin.chunks if chunk.rows]

    @property
    def broken(self) -> int:
        """How many lines are no JSON object; they stay in `metrics.jsonl`, and are in no column."""
        return sum(chunk.broken for chunk in self._twin.chunks)

    @property
    def rows(self) -> int:
        """How many lines are."""
        return sum(chunk.rows for chunk in self._chunks)

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The names of all columns, in order of appearance: the seed's, then what the script reported."""
        names = dict.fromkeys(("timestamp", "attempt", "rank", "step", *SEED))
        for chunk in self._chunks:
            names |= dict.fromkeys(chunk.schema.names)
        return tuple(names)

    @property
    def columns(self) -> tuple[str, ...]:
        """The numbers there are: those of the seed, and any that the script reported."""
        left_out = ("timestamp", "attempt", "rank", "step", "nonfinite", "other", *_TAKEN)
        return tuple(name for name in self.fields if name not in left_out)

    @cached_property
    def with_numbers(self) -> frozenset[str]:
        """Those of `columns` in which any line has a finite number; a column is read up to the first part that has."""
        import numpy as np
        import pyarrow as pa

        found: set[str] = set()
        for chunk in self._chunks:
            rest = [name for name in self.columns if name not in found]
            if not rest:
                break
            batch = chunk.columns(rest)
            for name in batch.schema.names:
                values = pa.chunked_array([batch.column(name)])
                finite, known = np.isfinite(numbers(values)), are_known(values)
                if (finite if known is None else finite & known).any():
                    found.add(name)
        return frozenset(found)

    def raw(self, names: Sequence[str] | None = None) -> pa.Table:
        """Return lines as they are, in the order of the file, with the columns `names` or all: null is not known."""
        import pyarrow as pa

        names = self.fields if names is None else names
        if not names:  # made of no columns a table would have no rows
            return pa.Table.from_arrays([pa.nulls(self.rows)], names=["none"]).select([])
        batches = side_by_side(lambda chunk: chunk.columns(names), self._chunks)
        parts = [pa.Table.from_batches([batch]) for batch in batches]
        table = pa.concat_tables(parts, promote_options="default") if parts else pa.table({})
        found = table.column_names
        arrays = [table[name] if name in found else self._unknown(name) for name in names]
        return pa.Table.from_arrays(arrays, names=list(names))

    def _unknown(self, name: str) -> pa.Array:
        """Return a column that no line has."""
        import pyarrow as pa

        return pa.nulls(self.rows, _types().get(name, pa.float64()))

    def table(
        self, columns: Sequence[str] | None = None, *, rank: int | None = None, attempt: int | None = None
    ) -> pa.Table:
        """Return the lines that belong to a rank and a step, in the order of the file.

        Columns: `attempt`, `rank`, `step`, `time` (Unix seconds), and `columns` or all: float64, null where not known,
        NaN where the script said that the number is none.

        Args:
            rank, attempt: only those of this rank, this attempt.

        Raises:
            NotFoundError: there is no such column.
        """
        import numpy as np
        import pyarrow as pa

        names = self.columns if columns is None else tuple(columns)
        for name in names:
            self._check(name)
        keys = self._keys
        keep = keys["keep"].copy()
        for name, wanted in (("rank", rank), ("attempt", attempt)):
            if wanted is not None:
                keep &= keys[name] == wanted
        whole = bool(keep.all())
        found = [keys[name] if whole else keys[name][keep] for name in ("attempt", "rank", "step", "time")]
        arrays = [*map(column_of, found[:3]), column_of(found[3], ~np.isnan(found[3]))]
        values = self.raw(names)
        if names and not whole:
            values = values.filter(flags(keep))
        return pa.table([*arrays, *(values[name] for name in names)], names=["attempt", "rank", "step", "time", *names])

    def told(self, column: str) -> Told:
        """Return the lines that tell a number: of each step and rank the newest attempt's, its last word.

        Raises:
            NotFoundError: there is no such column.
        """
        self._check(column)
        values = self.raw([column])[column]
        keys = self._keys
        arrays = [*(keys[name] for name in ("attempt", "rank", "step", "time")), numbers(values)]
        told = are_known(values)
        known = keys["keep"] if told is None else keys["keep"] & told
        if not known.all():
            arrays = [array[known] for array in arrays]
        return Told.newest(*arrays)

    def chart(
        self,
        column: str,
        *,
        by: Literal["step", "time"] = "step",
        ranks: str | Sequence[int] = "mean",
        points: int = 1000,
        smooth: float = 0.0,
    ) -> Chart:
        """Return a number over steps or time, with so few points that it can be drawn; minima and maxima are kept.

        Args:
            column: one of `columns`.
            by: what x is: the step, or Unix seconds.
            ranks: "mean" of the ranks, "each" of them, or those in a list.
            points: at most so many of each line.
            smooth: weight of what was before, 0 to less than 1, as TensorBoard smooths.

        Raises:
            NotFoundError: there is no such column.
        """
        return chart(self.told(column), column, by=by, ranks=ranks, points=points, smooth=smooth)

    def samples(self, points: int = 1000) -> list[dict[str, Any]]:
        """Return what the nodes measured once a second while the job ran, a line per node (and GPU) and reading."""
        return self.machines.lines(points)

    @cached_property
    def machines(self) -> Samples:
        """What the nodes measured."""
        return Samples(self._paths)

    @property
    def last_step(self) -> int | None:
        """The last step that any rank of the newest attempt reported which reported any."""
        attempts, steps = (self._keys[name][self._keys["keep"]] for name in ("attempt", "step"))
        return int(steps[attempts == attempts.max()].max()) if len(steps) else None

    @property
    def newest_ranks(self) -> list[int]:
        """The ranks of the newest attempt that told anything."""
        import numpy as np

        keys = self._keys
        attempts, ranks = (keys[name][keys["keep"]] for name in ("attempt", "rank"))
        if not len(attempts):
            return []
        ranks = ranks[attempts == attempts.max()]
        # To count them takes a third of the time, unless a line tells of rank 2,000,000,000.
        found = np.flatnonzero(np.bincount(ranks)) if ranks.max() < 1 << 20 else np.unique(ranks)
        return [int(rank) for rank in found]

    def _check(self, column: str) -> None:
        if column not in self.columns:
            there = some_of(self.columns, column)
            raise NotFoundError(f"job {self.job}: metric {column[:80]!r}", "no line tells it", f"there are {there}")

    @cached_property
    def _keys(self) -> dict[str, np.ndarray[Any, Any]]:
        """Whose lines they are: `attempt` (1 where none is told), `rank`, `step` (-1 where a line has none), `time`
        (Unix seconds, NaN where it has none), and `keep`: whether it belongs to a rank and a step."""
        import numpy as np
        import pyarrow as pa

        table = self.raw(["attempt", "rank", "step", "timestamp"])
        keys = {name: numbers(table[name], missing=1 if name == "attempt" else -1) for name in table.column_names[:3]}
        # Seen as the numbers they are: a cast imports more of Arrow.
        moments = pa.chunked_array([part.view(pa.int64()) for part in table["timestamp"].chunks], pa.int64())
        keys["time"] = numbers(moments) / 1e6
        if (told := are_known(moments)) is not None:
            keys["time"][~told] = np.nan
        keys["keep"] = (keys["rank"] >= 0) & (keys["step"] >= 0)
        return keys


def open_job(job: str) -> Series:
    """Return the metrics of a job; their columns are brought up to date first, which costs little.

    Raises:
        NotFoundError: the central store has no folder of it.
        StateError: the central store cannot be read.
    """
    paths = JobPaths(check_name(job))
    if not paths.root.is_dir():
        raise NotFoundError(f"job {job}", f"{paths.root} does not exist", "`ugro ps --all` lists the jobs")
    if not paths.metrics.exists():
        metrics.rebuild(paths)  # its controller was killed before it could
    return Series(paths)


def catch_up(paths: JobPaths) -> int:
    """Bring the columns of a job's metrics up to date and return how far into `metrics.jsonl` they are, in bytes.

    Raises:
        StateError: the central store cannot be read.
    """
    twin = Twin(paths.metrics, paths.series(paths.metrics), MetricLines())
    twin.refresh()
    return twin.chunks[-1].end if twin.chunks else 0


def _types() -> dict[str, pa.DataType]:
    import pyarrow as pa

    return {
        "timestamp": pa.timestamp("us", "UTC"), "attempt": pa.int32(), "rank": pa.int32(), "step": pa.int64(),
        "nonfinite": pa.string(), "other": pa.string(),
    }  # fmt: skip
