# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Jobs that differ in what they tell, as one table of CSV and of Parquet, and what of them is in memory meanwhile."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from pyarrow import parquet

from tests.unit.experiment_store import Experiments, own_store  # noqa: F401 - a fixture
from ugro_py import metrics, results
from ugro_py.errors import StateError
from ugro_py.paths import JobPaths
from ugro_py.reports import export

WRITERS: dict[str, Callable[[Path], pd.DataFrame]] = {"csv": pd.read_csv, "parquet": pd.read_parquet}


@pytest.fixture
def own(own_store: Experiments) -> Experiments:  # noqa: F811
    """Four jobs: one as usual, one without lines, one of which each kind of column is otherwise, one with text."""
    own_store.run("usual", [3.0, None, 1.0])
    own_store.run("empty", [])
    own_store.run("holes", [2.0])
    own_store.run("text", [4.0])
    add("holes", {"rank": None, "step": None, "epoch": 0.5}, {"attempt": None, "timestamp": "2026-01-20T12:00:00.25Z"})
    add("text", {"rank": 0, "step": 9, "phase": 'warm\nup, "then" é', "epoch": 1, "deep": {"a": [1]}})
    return own_store


def add(job: str, *lines: dict[str, Any]) -> None:
    with JobPaths(job).metrics.open("a") as stream:
        stream.writelines(json.dumps({"attempt": 1, "rank": 0, "step": 1, **line}) + "\n" for line in lines)


def write(jobs: Sequence[str], target: Path) -> int:
    return export.write([{"job": job} for job in jobs], target, target.suffix[1:], force=True)


def together(jobs: Sequence[str]) -> pd.DataFrame:
    """The same by pandas itself, which needs all of them in memory."""
    frames = [results.load(job) for job in jobs]
    filled = [frame for frame in frames if len(frame)] or frames[:1]
    columns = list(dict.fromkeys(name for frame in frames for name in frame.columns))
    return pd.concat(filled, ignore_index=True).reindex(columns=columns)


def test_the_table_is_what_pandas_makes_of_all_jobs(own: Experiments, tmp_path: Path) -> None:
    names = ["usual", "empty", "holes", "text"]
    for jobs in [*permutations(names, 2), *([name] for name in names), names, names[::-1]]:
        whole = together(jobs)
        assert write(jobs, tmp_path / "x.parquet") == write(jobs, tmp_path / "x.csv") == len(whole)
        assert_frame_equal(pd.read_parquet(tmp_path / "x.parquet"), whole)
        moment = "%Y-%m-%dT%H:%M:%S.%fZ" if "holes" in jobs else "%Y-%m-%dT%H:%M:%SZ"
        expected = whole.to_csv(index=False, date_format=moment, lineterminator="\n")
        assert (tmp_path / "x.csv").read_bytes().decode() == expected
        whole.to_parquet(tmp_path / "y.parquet", index=False)
        found, wanted = (parquet.read_schema(tmp_path / f"{name}.parquet") for name in "xy")
        assert found.equals(wanted, check_metadata=True)


@pytest.mark.parametrize("kind", WRITERS)
def test_one_job_at_a_time_is_in_memory(
    own: Experiments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    load, alive, most = results.load, list[weakref.ref[Any]](), 0

    def watched(job: str) -> pd.DataFrame:
        nonlocal most
        gc.collect()
        most = max(most, sum(reference() is not None for reference in alive))
        frame = load(job)
        numbers = frame["training_loss"].to_numpy()
        while isinstance(numbers.base, np.ndarray):
            numbers = numbers.base
        alive.append(weakref.ref(numbers))
        return frame

    monkeypatch.setattr(results, "load", watched)
    assert write(["usual", "holes", "text"], tmp_path / f"x.{kind}") == 13
    assert len(alive) >= 3 and most == 0, "when a job is read, the numbers of those before are gone"


@pytest.mark.parametrize("kind", WRITERS)
def test_a_job_that_runs_on_meanwhile(
    own: Experiments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    load = results.load
    meanwhile: list[Callable[[], object]] = [lambda: add("usual", {"rank": None, "step": None, "new": 1.0, "x": "y"})]

    def growing(job: str) -> pd.DataFrame:
        frame = load(job)
        if job == "text" and meanwhile:  # the last of those that are looked at first
            meanwhile.pop()()
        return frame

    jobs = ["usual", "text"]
    expected = together(jobs)
    monkeypatch.setattr(results, "load", growing)
    target = tmp_path / f"x.{kind}"
    assert write(jobs, target) == len(expected)
    written = WRITERS[kind](target)
    assert list(written.columns) == list(expected.columns) and written["step"].tolist() == expected["step"].tolist()
    meanwhile.append(lambda: metrics.rebuild(JobPaths("usual")))
    with pytest.raises(StateError, match="job usual: its metrics were put in order anew"):
        write(jobs, target)
    assert len(WRITERS[kind](target)) == len(expected), "and what was there is there"
