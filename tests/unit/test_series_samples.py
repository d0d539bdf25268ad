# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What nodes measured, as lines to draw and joined to the steps; and charts over the real API."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tests.unit.api_server import Serve, start  # noqa: F401 - a fixture
from tests.unit.job_store import JOB, NODES, JobStore, job_store  # noqa: F401 - a fixture
from ugro_py import metrics, results, series
from ugro_py.api.client import Client, job_path
from ugro_py.errors import NotFoundError, UsageError
from ugro_py.paths import JobPaths

STAMP = "1970-01-01T00:16:{:02}Z"


@pytest.fixture
def measured(job_store: JobStore) -> JobStore:  # noqa: F811
    """Three ranks on three nodes, two steps a second, a sample a second; the third node's machine died at once."""
    one = job_store.attempt()
    for rank, node in enumerate(NODES):
        job_store.event(one, node, 999.0, "rank_started", rank=rank, pid=5)
        for second in range(40 if rank < 2 else 1):
            gpus = [
                {"uuid": f"GPU-{i}", "index": i, "util": 10.0 * i + second, "mem_used_gb": 1.0, "temperature_c": 50 + i,
                 "power_w": 100, "clock_sm_mhz": 1000 + i, "throttle": ["sw_power_cap"] if second < 10 else []}
                for i in range(rank)
            ]  # fmt: skip
            job_store.event(
                one, node, 1000.4 + second, "sample", cpu_percent=float(second), mem_used_gb=2.0, net_rx_mb_s=1.5,
                net_tx_mb_s=None, gpus=gpus,
            )  # fmt: skip
    for step in range(40):
        for rank in range(3):
            job_store.step(one, rank, step, 1.0, timestamp=STAMP.format((step + 40) % 60))
    with job_store.paths.node_events(one, NODES[0]).open("a") as stream:
        stream.write(
            '{"t": 1, "kind": "sample"\n{"t": "x", "kind": "sample"}\n{"t": 2e9, "kind": "sample", "gpus": [7, {}]}\n'
        )
        stream.write('{"t": 1003.4, "kind": "sample", "cpu_percent": NaN, "mem_used_gb": true, "gpus": {"a": 1}}\n')
        stream.write('{"t": 1003, "kind": "metrics", "rank": 0, "step": 99, "note": "\\"kind\\": \\"sample\\""}\n')
    metrics.rebuild(job_store.paths)
    return job_store


def test_lines_of_each_node_and_gpu(measured: JobStore) -> None:
    lines = series.open_job(JOB).samples(points=10)
    found = {(one["node"], one["gpu"], one["column"]): one for one in lines}
    cpu = found["gpu1", None, "cpu_percent"]
    assert (cpu["unit"], len(cpu["x"]), cpu["min"][0], cpu["max"][-1]) == ("%", 10, 0.0, 39.0)
    assert (cpu["x"][0], cpu["x"][-1]) == (1000.4, 1039.4)
    assert found["gpu1", 0, "gpu_util"]["y"][0] == 1.5
    assert ("gpu1", None, "net_tx_mb_s") not in found, "what no sample tells has no line"
    assert {column for node, gpu, column in found if gpu is not None} == {
        "gpu_util", "gpu_mem_used_gb", "temperature_c", "power_w", "clock_sm_mhz", "throttle",
    }  # fmt: skip
    held = found["gpu1", 0, "throttle"]
    assert (held["unit"], held["y"][0], held["y"][-1], held["reasons"]) == ("%", 100.0, 0.0, ["sw_power_cap"])
    json.dumps(lines, allow_nan=False)


def test_readings_are_joined_to_steps_by_node_and_time(measured: JobStore) -> None:
    frame = results.load(JOB, samples=True).set_index(["rank", "step"])
    assert len(frame) == 121
    assert frame.loc[(0, 10), "node"] == "gpu-master"
    # Step 10 is at 1010 s of the clock of its node; the nearest reading is that of 1010.4 s.
    assert frame.loc[(1, 10), "node_cpu_percent"] == 10.0
    assert frame.loc[(1, 10), ["node_gpu_util", "node_gpu_power_w"]].to_list() == [10.0, 100.0]
    assert math.isnan(frame.loc[(0, 10), "node_gpu_power_w"])
    assert frame.loc[(1, 10), "node_gpu_throttled"] == 0.0 and frame.loc[(1, 5), "node_gpu_throttled"] == 1.0
    assert math.isnan(frame.loc[(0, 10), "node_gpu_throttled"])
    near, far = frame.loc[(2, 3), "node_cpu_percent"], frame.loc[(2, 30), "node_cpu_percent"]
    assert near == 0.0, "within 5 s"
    assert math.isnan(far)
    assert frame["node_net_rx_mb_s"].max() == 1.5
    plain = results.load(JOB)
    assert list(frame.reset_index()[plain.columns].columns) == list(plain.columns)
    assert results.load(JOB, samples=True)["step"].to_list() == plain["step"].to_list()


def test_only_the_columns_asked_for(measured: JobStore) -> None:
    frame = results.load(JOB, columns=["training_loss", "job_id", "step"])
    assert list(frame.columns) == ["training_loss", "job_id", "step"]
    assert list(results.load(JOB, columns=["step"], samples=True).columns)[:3] == ["step", "node", "node_cpu_percent"]
    with pytest.raises(NotFoundError, match="column 'nope'"):
        results.load(JOB, columns=["nope"])


def test_a_number_of_the_script_gives_way_to_a_reading_of_its_name(measured: JobStore, tmp_path: Path) -> None:
    with measured.paths.metrics.open("a") as stream:
        stream.write(
            '{"attempt": 1, "rank": 1, "step": 41, "node_cpu_percent": 7, "node": 3, "node_mine": 5, "time": 9}\n'
        )
    own = results.load(JOB)
    assert own[["node_cpu_percent", "node", "node_mine", "time"]].iloc[-1].to_list() == [7, 3, 5, 9]
    frame = results.load(JOB, samples=True)
    assert frame.columns.is_unique and set(frame.columns) >= {"node", "node_mine", "time"}
    assert set(frame["node"].dropna()) == set(NODES) and frame["node_mine"].iloc[-1] == 5
    assert math.isnan(frame["node_cpu_percent"].iloc[-1]) and frame["node_cpu_percent"].max() == 19.0
    frame.to_parquet(tmp_path / "frame.parquet")
    some = results.load(JOB, samples=True, columns=["node_cpu_percent", "step"])
    assert some.columns.is_unique and list(some.columns)[:3] == ["step", "node", "node_cpu_percent"]


def test_a_job_without_samples_or_lines_can_be_joined(job_store: JobStore) -> None:  # noqa: F811
    assert "node" in results.load(JOB, samples=True).columns
    one = job_store.attempt()
    job_store.step(one, 0, 1, 2.0)
    metrics.rebuild(job_store.paths)
    frame = results.load(JOB, samples=True)
    assert len(frame) == 1
    assert frame["node_cpu_percent"].isna().all()
    assert series.open_job(JOB).samples() == []


def test_charts_over_the_api(start: Serve) -> None:  # noqa: F811
    server = start()
    server.agent.store.create_job("job_1", "ob", {})
    paths = JobPaths("job_1")
    paths.root.mkdir(parents=True)
    client = Client(server.path)
    assert client.get(job_path("job_1", "series"))["lines"] == []
    lines = [
        {"attempt": 1, "rank": rank, "step": step, "training_loss": 4.0 - rank} for step in (1, 2) for rank in (0, 1)
    ]
    paths.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = client.get(job_path("job_1", "series"), column="training_loss")
    assert found["lines"][0]["y"] == [3.5, 3.5]
    each = client.get(job_path("job_1", "series"), ranks="0,1", smooth=0.5, points=2)
    assert [line["name"] for line in each["lines"]] == ["rank 0", "rank 1"]
    assert client.get(job_path("job_1", "samples")) == []
    with pytest.raises(NotFoundError, match="metric '<b>'"):
        client.get(job_path("job_1", "series"), column="<b>")
    for bad in ({"points": 0}, {"points": 10**9}, {"smooth": 1}, {"ranks": "0;1"}, {"by": "rank"}, {"smooth": "nan"}):
        with pytest.raises(UsageError):
            client.get(job_path("job_1", "series"), **bad)
    with pytest.raises(NotFoundError):
        client.get(job_path("../job_1", "series"))


def test_a_time_beyond_what_pandas_counts_in_nanoseconds_has_no_sample(measured: JobStore) -> None:
    with measured.paths.metrics.open("a") as stream:
        stream.write('{"attempt": 1, "rank": 0, "step": 99, "timestamp": "9999-12-31T23:59:59Z"}\n')
    frame = results.load(JOB, samples=True)
    assert frame["node_cpu_percent"].notna().sum() > 40
    assert math.isnan(frame["node_cpu_percent"].iloc[-1]) and frame["step"].iloc[-1] == 99


def test_a_clock_that_no_calendar_has_tells_nothing(measured: JobStore) -> None:
    with measured.paths.node_events(1, NODES[0]).open("a") as stream:
        stream.write('{"t": 1e300, "kind": "sample", "cpu_percent": 1}\n{"t": -1e15, "kind": "sample"}\n')
    assert results.summary(JOB).duration_s is not None
