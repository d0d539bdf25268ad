"""The metrics of a job as a pandas data frame, with the readings of its nodes joined to the steps by time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ugro_py import metrics
from ugro_py.errors import NotFoundError
from ugro_py.series.named import some_of

if TYPE_CHECKING:
    import pandas as pd

    from ugro_py.series import Series


def frame(series: Series, *, samples: bool = False, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return the lines of metrics as a data frame; see `results.load`."""
    import pyarrow as pa

    first = metrics.FIELDS
    fields = [name for name in series.fields if name not in ("nonfinite", "other")]
    texts = [name for name in ("nonfinite", "other") if name in series.fields]
    readings = _readings() if samples else ()
    names = [name for name in (*first, *(name for name in fields if name not in first), *texts) if name not in readings]
    for name in columns or ():
        if name not in names and name not in readings:
            there = some_of(names, name)
            raise NotFoundError(f"job {series.job}: column {name[:80]!r}", "no line has it", f"there are {there}")
    wanted = [name for name in columns if name not in readings] if columns is not None else names
    needed = dict.fromkeys([*wanted, *(("timestamp", "attempt", "rank") if samples else ())])
    table = series.raw([name for name in needed if name != "job_id"])
    if "job_id" in needed:
        at = list(needed).index("job_id")
        # The same text again and again: a frame of it is a pointer per line.
        table = table.add_column(at, "job_id", pa.repeat(pa.scalar(series.job, pa.large_string()), len(table)))
    # Columns of one type go into one block, by several threads; each block of its own would be filled by one thread.
    found = table.to_pandas(self_destruct=True)
    if samples:
        found = _with_samples(found, series)
        wanted += readings
    return found if list(found.columns) == wanted else found[wanted]  # which would be a copy


def _readings() -> tuple[str, ...]:
    """Return the columns that samples add; a number of the script that has such a name gives way."""
    from ugro_py.series.samples import JOINED

    return ("node", *JOINED.values())


def _with_samples(lines: pd.DataFrame, series: Series) -> pd.DataFrame:
    """Return the lines with `node` and the reading of that node which is nearest in time, within 5 s."""
    import numpy as np
    import pandas as pd

    from ugro_py.series.samples import JOIN_WITHIN_S, JOINED

    nodes = series.machines.node_of_ranks()
    attempts = lines["attempt"].fillna(1).astype("int64")
    ranks = lines["rank"].fillna(-1).astype("int64")
    pairs = pd.DataFrame(
        [(*pair, node) for pair, node in nodes.items()], columns=["attempt", "rank", "node"]
    )  # fmt: skip
    keys = pd.DataFrame({"attempt": attempts, "rank": ranks, "order": np.arange(len(lines))})
    keys["time"] = (lines["timestamp"] - pd.Timestamp(0, tz="UTC").as_unit("us")).dt.total_seconds()
    keys = keys.merge(pairs.astype({"attempt": "int64", "rank": "int64"}), how="left", on=["attempt", "rank"])
    asked = keys[keys["time"].notna() & keys["node"].notna()].sort_values("time", kind="stable")
    told = series.machines.frame().drop(columns="attempt")
    joined = pd.merge_asof(
        asked.astype({"node": object}), told, on="time", by="node", direction="nearest", tolerance=JOIN_WITHIN_S
    )
    readings = joined.set_index("order")[list(JOINED.values())].reindex(range(len(lines)))
    added = pd.concat([keys.set_index("order")["node"].reindex(range(len(lines))), readings], axis=1)
    return pd.concat([lines, added], axis=1)
