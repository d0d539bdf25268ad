"""Which columnar form is beside `metrics.jsonl` (docs/adr/0012): to write a million lines as they arrive, to open them.

Lines are written in pieces of 20,000; read are the four columns of a loss curve, into numpy. UGRO's Arrow batches stand
against Parquet parts and SQLite; DuckDB is measured where it is installed. CPU seconds, for disks differ.
"""

from __future__ import annotations

import importlib.util
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.bed import Bed
from benchmarks.measure import Result, paired

NAME = "columns"
LINES, PIECE = 1_000_000, 20_000
CURVE = ["attempt", "rank", "step", "training_loss"]


def measure(_bed: Bed | None, n: int = 3) -> list[Result]:
    """Measure `n` pairs against each other form."""
    pieces = _pieces()
    others = {"parquet": _parquet, "sqlite": _sqlite}
    if importlib.util.find_spec("duckdb"):
        others["duckdb"] = _duckdb
    found = []
    for name, other in others.items():
        sides = [_timed(form, pieces) for form in (_arrow, other)]
        found.append(Result(f"columns_against_{name}", "s", *paired(n, *sides), limit=1.0))
    return found


def _timed(form: Callable[[Path, list[Any]], int], pieces: list[Any]) -> Callable[[int], float]:
    def side(_number: int) -> float:
        with tempfile.TemporaryDirectory(prefix="ugro-bench-") as folder:
            begun = time.process_time()
            assert form(Path(folder), pieces) == LINES
            return time.process_time() - begun

    return side


def _pieces() -> list[Any]:
    import numpy as np
    import pyarrow as pa

    rng, lines = np.random.default_rng(1), np.arange(LINES)
    numbers = {name: rng.random(LINES) for name in ("training_loss", "throughput_tokens_sec", "gradient_norm")}
    utilisation = {"gpu_util": rng.integers(0, 1000, LINES) / 10, "gpu_mem_used_gb": np.full(LINES, 9.8)}
    fixed = {"attempt": np.ones(LINES, np.int32), "rank": (lines % 8).astype(np.int32), "step": lines // 8}
    table = pa.table({**fixed, "time": 1.8e9 + lines * 0.04, **utilisation, **numbers, "epoch": lines / 8000})
    return [table.slice(at, PIECE).combine_chunks() for at in range(0, LINES, PIECE)]


def _arrow(folder: Path, pieces: list[Any]) -> int:
    from ugro_py.series.twin import Chunk, _load, _packed

    with (folder / "columns").open("wb") as file:
        for number, piece in enumerate(pieces):
            batch = piece.to_batches()[0]
            file.write(_packed(Chunk(number, number + 1, 1, 1, 0, batch.num_rows, batch=batch)))
    batches = [chunk.columns(CURVE) for chunk in _load(folder / "columns")]
    return sum(len(batch.column(3).to_numpy()) for batch in batches)


def _parquet(folder: Path, pieces: list[Any]) -> int:
    import pyarrow.parquet as pq

    for number, piece in enumerate(pieces):
        pq.write_table(piece, folder / f"{number:06}.parquet", compression="zstd")
    return len([column.to_numpy() for column in pq.read_table(folder, columns=CURVE).columns][3])


def _sqlite(folder: Path, pieces: list[Any]) -> int:
    import numpy as np

    database = sqlite3.connect(folder / "metrics.db")
    database.execute("pragma journal_mode=wal")
    names = pieces[0].column_names
    database.execute(f"create table metrics ({', '.join(names)})")
    for piece in pieces:
        rows = zip(*(column.to_pylist() for column in piece.columns), strict=True)
        database.executemany(f"insert into metrics values ({', '.join('?' * len(names))})", rows)
        database.commit()
    found = np.array(database.execute(f"select {', '.join(CURVE)} from metrics").fetchall())
    database.close()
    return len(found)


def _duckdb(folder: Path, pieces: list[Any]) -> int:
    import duckdb  # type: ignore[import-not-found]

    database = duckdb.connect(folder / "metrics.db")
    for number, piece in enumerate(pieces):
        database.register("piece", piece)
        database.execute("insert into metrics from piece" if number else "create table metrics as from piece")
    found = database.execute(f"select {', '.join(CURVE)} from metrics").fetchnumpy()
    database.close()
    return len(found["step"])
