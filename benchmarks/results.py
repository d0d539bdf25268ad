"""A million lines of metrics: `ugro results`, the data frame, a chart; each has its limit.

The job is as a launch leaves it: 8 ranks on 2 nodes, their events with a sample a second, `metrics.jsonl` and the
columns beside it, written some MB at a time while the lines came. Nothing of it is in the page cache when
`ugro results` starts. By hand is what pandas takes for the same columns from a Parquet file, which is the fastest
that it reads.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.bed import UGRO, Bed, run
from benchmarks.measure import Figure, Result, paired
from ugro_py import metrics, results, series
from ugro_py.api.client import Client, job_path
from ugro_py.paths import JobPaths
from ugro_py.state import Store

JOB = "a-million-lines"
LINES, RANKS = 1_000_000, 8
STEPS_OF_A_CHUNK = 900  # some 2 MB of lines: from so many on columns are added
RESULTS_LIMIT_S = 1.5
# A file that comes from elsewhere: 300 MB of text are read once, and have columns from then on.
BARE_LIMIT_S = 1.5
LOAD_LIMIT = 1.2
CHART_LIMIT_S = 0.2


class Results:
    """How long `ugro results` takes: with the columns that a launch leaves, and with `metrics.jsonl` alone."""

    NAME = "results_of_a_million_lines"

    @staticmethod
    def measure(_bed: Bed | None, n: int = 5) -> list[Figure]:
        with million() as paths:
            kept = [_results(paths) for _ in range(n)]
            bare = []
            for _ in range(n):
                paths.series(paths.metrics).unlink()
                bare.append(_results(paths))
        alone = Figure("results_of_bare_lines", "s", bare, BARE_LIMIT_S)
        return [Figure(Results.NAME, "s", kept, RESULTS_LIMIT_S), alone]


class Load:
    """The data frame against what pandas takes to read the same columns from a Parquet file."""

    NAME = "load_against_bare_read"

    @staticmethod
    def measure(_bed: Bed | None, n: int = 15) -> Result:
        import pandas as pd

        with million() as paths:
            by_hand = paths.root / "by_hand.parquet"
            results.load(JOB).to_parquet(by_hand)

            def ours(_number: int) -> float:
                begun = time.perf_counter()
                frame = results.load(JOB)
                taken = time.perf_counter() - begun
                assert len(frame) == LINES
                return taken

            def hand(_number: int) -> float:
                begun = time.perf_counter()
                frame = pd.read_parquet(by_hand)
                taken = time.perf_counter() - begun
                assert len(frame) == LINES
                return taken

            return Result(Load.NAME, "s", *paired(n, ours, hand), limit=LOAD_LIMIT)


class Charts:
    """How long the API takes for a chart of a number that was told a million times, from request to answer."""

    NAME = "chart_of_a_million_points"

    @staticmethod
    def measure(_bed: Bed | None, n: int = 9) -> Figure:
        from tests.unit.api_server import Served

        taken = []
        with million() as paths, tempfile.TemporaryDirectory() as folder:
            server = Served(Path(folder))
            try:
                server.agent.store.create_job(JOB, "ob", {})
                for number in range(n + 1):
                    column = ("training_loss", "gradient_norm")[number % 2]
                    begun = time.perf_counter()
                    found = Client(server.path).get(job_path(JOB, "series"), column=column, points=1000)
                    taken.append(time.perf_counter() - begun)
                    assert found["points"] == LINES and len(found["lines"][0]["x"]) == 1000, paths
            finally:
                server.close()
        return Figure(Charts.NAME, "s", taken[1:], CHART_LIMIT_S)


@contextmanager
def million() -> Iterator[JobPaths]:
    """Make the job in a store of its own."""
    kept = {name: os.environ.get(name) for name in ("UGRO_DATA", "UGRO_DB", "UGRO_AGENT")}
    with tempfile.TemporaryDirectory(prefix="ugro-bench-") as folder:
        for name in kept:
            os.environ.pop(name, None)
        os.environ["UGRO_DATA"] = folder
        paths = JobPaths(JOB)
        try:
            paths.root.mkdir(parents=True)
            _write(paths)
            metrics.rebuild(paths)  # as at the end of every job: lines and columns are made anew, and whole
            with Store.open() as store:
                store.create_job(JOB, "ob", {"model": "tiny-llama"})
                store.set_job(JOB, "completed")
            series.open_job(JOB).samples()
            yield paths
        finally:
            for name, value in kept.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def _write(paths: JobPaths) -> None:
    """Write what the nodes sent and the lines that the engine derives of it."""
    rng, began = random.Random(1), 1_800_000_000.0
    copies = [paths.node_events(1, node) for node in ("gpu1", "gpu2")]
    copies[0].parent.mkdir(parents=True)
    per_node = RANKS // len(copies)
    with copies[0].open("w") as one, copies[1].open("w") as two, paths.metrics.open("w") as lines:
        for node in (one, two):
            for rank in range(per_node):
                _event(node, began, "rank_started", rank=rank + (per_node if node is two else 0), pid=1)
        for step in range(LINES // RANKS):
            moment = began + step * 0.3
            stamp = datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            if step % 3 == 0:
                gpus = [
                    {"uuid": f"GPU-{i}", "index": i, "util": rng.random(), "mem_used_gb": 9} for i in range(per_node)
                ]
                for node in (one, two):
                    _event(node, moment, "sample", cpu_percent=rng.random(), mem_used_gb=9.5, gpus=gpus)
            for rank in range(RANKS):
                told = {
                    "step": step + 1, "gpu_util": round(rng.random() * 100, 1), "gpu_mem_used_gb": 9.8,
                    "training_loss": 8 - step / 1e5 + rng.random(), "throughput_tokens_sec": rng.random() * 1000,
                    "gradient_norm": rng.random(), "learning_rate": 0.0002, "epoch": step / 1000,
                }  # fmt: skip
                _event(one if rank < per_node else two, moment, "metrics", rank=rank, timestamp=stamp, **told)
                head = {"timestamp": stamp, "job_id": JOB, "attempt": 1, "rank": rank}
                lines.write(json.dumps({**head, **told}) + "\n")
            if step % STEPS_OF_A_CHUNK == 0:
                lines.flush()
                series.catch_up(paths)


def _event(node, moment: float, kind: str, **values: object) -> None:  # type: ignore[no-untyped-def]
    node.write(json.dumps({"t": moment, "kind": kind, **values}) + "\n")


def _results(paths: JobPaths) -> float:
    """Return how long `ugro results` takes, in a process of its own and with none of the files in the page cache."""
    for path in paths.root.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
    begun = time.perf_counter()
    shown = run([str(UGRO), "results", JOB]).stdout
    taken = time.perf_counter() - begun
    assert "125,000" in shown, shown
    return taken
