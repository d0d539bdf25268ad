"""What the nodes measured once a second while a job ran: CPU, memory, network, disks and GPUs, as columns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ugro_py import metrics
from ugro_py.paths import JobPaths
from ugro_py.series.arrays import are_known, column_of, mean_of, nullable, numbers, repeated, texts
from ugro_py.series.chart import thinned
from ugro_py.series.twin import Chunk, Twin, side_by_side

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

NODE_UNITS = {
    "cpu_percent": "%", "mem_used_gb": "GB", "net_rx_mb_s": "MB/s", "net_tx_mb_s": "MB/s",
    "disk_read_mb_s": "MB/s", "disk_write_mb_s": "MB/s",
}  # fmt: skip
"""Readings of a whole machine and their units."""

GPU_UNITS = {
    "gpu_util": "%", "gpu_mem_used_gb": "GB", "temperature_c": "°C", "power_w": "W", "clock_sm_mhz": "MHz",
}  # fmt: skip
"""Readings of a GPU and their units; in the events they are without `gpu_`."""

JOINED = {
    **{name: f"node_{name}" for name in NODE_UNITS},
    "gpu_util": "node_gpu_util", "gpu_mem_used_gb": "node_gpu_mem_used_gb", "temperature_c": "node_gpu_temperature_c",
    "power_w": "node_gpu_power_w", "clock_sm_mhz": "node_gpu_clock_sm_mhz", "throttled": "node_gpu_throttled",
}  # fmt: skip
"""Readings as columns of a node: of its GPUs the mean utilisation, memory and power of all together,
the highest temperature and the lowest clock, and 1 where one of them was held back by its driver, else 0."""

JOIN_WITHIN_S = 5.0
"""A sample that is further from a step than this tells nothing about it."""

# No clock tells a later time (the year 9999); what no calendar has is none.
_LATEST = 253_402_300_000.0
# What a row is of.
_MARK, _NODE, _GPU, _RANK = range(4)
_KINDS = (b"sample", b"supervisor_started", b"finished", b"rank_started")


class SampleLines:
    """A parser of `series.twin.Twin` for a copy of a node's events.

    Columns: `kind` (0 begin or end, 1 machine, 2 GPU, 3 a rank that started), `time` (Unix seconds), `index`
    (of the GPU or the rank), `uuid` and `throttle` (of the GPU; names with commas between), and the readings, null
    where unknown.
    """

    def learn(self, names: Iterable[str]) -> None:
        """All columns are known from the start."""

    def __call__(self, data: bytearray) -> tuple[pa.RecordBatch, int]:
        """Return the columns of whole lines; other events are left out unread, damaged ones are no samples."""
        import pyarrow as pa

        rows: list[dict[str, Any]] = []
        for event in _events(data):
            moment = _number(event.get("t"))
            if moment is None or not 0 <= moment < _LATEST:
                continue
            if event["kind"] != "sample":
                kind = _RANK if event["kind"] == "rank_started" else _MARK
                rows.append({"kind": kind, "time": moment, "index": _index(event.get("rank"))})
                continue
            rows.append({"kind": _NODE, "time": moment, **{name: _number(event.get(name)) for name in NODE_UNITS}})
            gpus = event.get("gpus")
            for gpu in gpus if isinstance(gpus, list) else ():
                if isinstance(gpu, dict):
                    rows.append(_gpu(gpu, moment))
        schema = _schema()
        kinds = {"kind": "int8", "index": "int32"}
        arrays = [
            texts([row.get(name) for row in rows])
            if name in ("uuid", "throttle")
            else nullable([row.get(name) for row in rows], kinds.get(name, "float64"))
            for name in schema.names
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=schema), 0


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            ("kind", pa.int8()), ("time", pa.float64()), ("index", pa.int32()), ("uuid", pa.string()),
            ("throttle", pa.string()), *((name, pa.float64()) for name in (*NODE_UNITS, *GPU_UNITS)),
        ]
    )  # fmt: skip


def _gpu(gpu: dict[str, Any], moment: float) -> dict[str, Any]:
    reasons = gpu.get("throttle")
    uuid = gpu.get("uuid")
    return {
        "kind": _GPU, "time": moment, "index": _index(gpu.get("index")),
        "uuid": uuid if isinstance(uuid, str) and uuid.isprintable() else None,
        "throttle": ",".join(str(reason) for reason in reasons) if isinstance(reasons, list) else None,
        **{name: _number(gpu.get(name.removeprefix("gpu_"))) for name in GPU_UNITS},
    }  # fmt: skip


def _events(data: bytearray) -> Iterator[dict[str, Any]]:
    """Yield the events of `_KINDS`, in order; a look for their names spares reading all the others as JSON."""
    starts = set()
    for kind in _KINDS:
        wanted = b'"kind": "' + kind + b'"'
        at = data.find(wanted)
        while at >= 0:
            starts.add(data.rfind(b"\n", 0, at) + 1)
            end = data.find(b"\n", at)
            at = data.find(wanted, end) if end >= 0 else -1
    names = {kind.decode() for kind in _KINDS}
    for start in sorted(starts):
        event = metrics.parse(bytes(data[start : data.find(b"\n", start) + 1 or None]))
        if event is not None and event.get("kind") in names:
            yield event


class Samples:
    """What all nodes of a job measured, in all attempts, when this was opened."""

    def __init__(self, paths: JobPaths) -> None:
        self._paths = paths
        found = paths.event_copies()
        self.attempt = max((attempt for attempt, _, _ in found), default=0)
        self.nodes = tuple(node for attempt, node, _ in found if attempt == self.attempt)

    @cached_property
    def table(self) -> pa.Table:
        """All rows, with `node` and `attempt` beside the columns of `SampleLines`."""
        import numpy as np
        import pyarrow as pa

        parts = []
        for attempt, node, path in self._paths.event_copies():
            twin = Twin(path, self._paths.series(path), SampleLines())
            twin.refresh()
            for batch in side_by_side(Chunk.columns, twin.chunks):
                part = pa.Table.from_batches([batch])
                part = part.append_column("node", repeated(node, len(part)))
                parts.append(part.append_column("attempt", column_of(np.full(len(part), attempt, np.int32))))
        schema = _schema().append(pa.field("node", pa.string())).append(pa.field("attempt", pa.int32()))
        return pa.concat_tables([pa.Table.from_batches([], schema), *parts])

    def span(self) -> tuple[float | None, float | None]:
        """Return when the first and the last of what is known here happened, in Unix seconds; None without any."""
        times = numbers(self.table["time"])[numbers(self.table["kind"]) != _RANK]
        return (float(times.min()), float(times.max())) if len(times) else (None, None)

    def mean(self, column: str) -> float | None:
        """Return the mean of a reading over time and machines (or GPUs); None without any."""
        values, known = numbers(self.table[column]), are_known(self.table[column])
        return mean_of(values if known is None else values[known])

    def lines(self, points: int = 1000) -> list[dict[str, Any]]:
        """Return lines to draw: `node`, `gpu` (its index, None for the machine), `column`, `unit`, `x` (Unix seconds),
        `y`, `min`, `max`. What no sample tells has no line. Of `throttle` (% of the time) also `reasons`."""
        import pyarrow.compute as pc

        found = []
        for node in sorted(pc.unique(self.table["node"]).to_pylist()):
            of_node = self.table.filter(pc.equal(self.table["node"], node))
            machine = of_node.filter(pc.equal(of_node["kind"], _NODE))
            found += list(_lines(machine, node, None, NODE_UNITS, points))
            gpus = of_node.filter(pc.equal(of_node["kind"], _GPU))
            rows = gpus.select(["uuid", "index"]).group_by(["uuid", "index"]).aggregate([]).to_pylist()
            keys = [(row["uuid"], row["index"]) for row in rows]
            for uuid, index in sorted(keys, key=lambda key: (key[1] or 0, key[0] or "")):
                mine = gpus if len(keys) == 1 else gpus.filter(pc.equal(gpus["uuid"], uuid))
                found += [*_lines(mine, node, index, GPU_UNITS, points), *_throttling(mine, node, index, points)]
        return found

    def frame(self) -> pd.DataFrame:
        """Return a row per second and node: `node`, `attempt`, `time` (Unix seconds) and `JOINED`."""
        frame = self.table.to_pandas()
        frame["node"] = frame["node"].astype(object)  # pandas merges no text columns of Arrow that are empty
        keys = ["node", "attempt", "time"]
        machine = frame[frame["kind"] == _NODE][[*keys, *NODE_UNITS]]
        how = dict(zip(GPU_UNITS, ("mean", "sum", "max", "sum", "min"), strict=True))
        of_gpus = frame[frame["kind"] == _GPU]
        throttled = of_gpus["throttle"].ne("").where(of_gpus["throttle"].notna()).astype("float64")
        groups = of_gpus.assign(throttled=throttled).groupby(keys)
        gpus = groups.agg({**how, "throttled": "max"})
        for name in ("gpu_mem_used_gb", "power_w"):  # a sum of nothing is not known
            gpus[name] = gpus[name].where(groups[name].count() > 0)
        whole = machine.merge(gpus, how="left", left_on=keys, right_index=True)
        return whole.rename(columns=JOINED).sort_values("time", kind="stable", ignore_index=True)

    def node_of_ranks(self) -> dict[tuple[int, int], str]:
        """Return the node of each (attempt, rank) that started."""
        import pyarrow.compute as pc

        started = self.table.filter(pc.equal(self.table["kind"], _RANK)).select(["attempt", "index", "node"])
        rows = started.to_pylist()
        return {(row["attempt"], row["index"]): row["node"] for row in rows if row["index"] is not None}


def _lines(rows: pa.Table, node: str, gpu: int | None, units: dict[str, str], points: int) -> Iterator[dict[str, Any]]:
    import pyarrow.compute as pc

    for column, unit in units.items():
        if rows[column].null_count < len(rows):
            told = rows.filter(pc.is_valid(rows[column])) if rows[column].null_count else rows
            line = thinned(node, numbers(told["time"]), numbers(told[column]), points).to_json()
            yield {**line, "node": node, "gpu": gpu, "column": column, "unit": unit}


def _throttling(rows: pa.Table, node: str, gpu: int | None, points: int) -> Iterator[dict[str, Any]]:
    """Yield the line of how much of the time a GPU was held back, if it ever was."""
    import numpy as np
    import pyarrow.compute as pc

    told = rows.filter(pc.is_valid(rows["throttle"]))
    known = pc.unique(told["throttle"]).to_pylist()
    reasons = sorted({reason for text in known for reason in text.split(",") if reason})
    if reasons:
        held = 100.0 * np.asarray(pc.not_equal(told["throttle"], ""))
        line = thinned(node, numbers(told["time"]), held, points).to_json()
        yield {**line, "node": node, "gpu": gpu, "column": "throttle", "unit": "%", "reasons": reasons}


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _index(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < 1 << 31 else None
