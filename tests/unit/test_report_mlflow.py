# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What `ugro export --format mlflow` writes, read back by MLflow itself, from files and from SQLite."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tests.unit.experiment_store import START, Experiments, own_store  # noqa: F401 - a fixture
from ugro_py import metrics
from ugro_py.cli import cli
from ugro_py.errors import StateError, UsageError
from ugro_py.paths import JobPaths
from ugro_py.reports import doors
from ugro_py.reports import mlflow as report_mlflow
from ugro_py.reports.mlflow import thinned
from ugro_py.reports.mlflow_names import Names

mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed (extra `mlflow`)")


@pytest.fixture
def own(own_store: Experiments, monkeypatch: pytest.MonkeyPatch) -> Experiments:  # noqa: F811
    """A store of the caller's own with two jobs, one of which failed."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    own_store.run("one", [3.0, None, 1.0])
    own_store.run("two", [4.0, 2.0], status="failed")
    return own_store


def ugro(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words], standalone_mode=False, catch_exceptions=False)


def export(*words: object) -> Result:
    return ugro("export", "--format", "mlflow", *words)


def opened(target: Path) -> Any:
    return mlflow.MlflowClient(tracking_uri=target.as_uri() if target.is_dir() else f"sqlite:///{target}")


def runs_of(target: Path) -> list[Any]:
    client = opened(target)
    return list(client.search_runs([client.get_experiment_by_name("ugro").experiment_id]))


def history(target: Path, run: Any, name: str) -> list[tuple[int, float]]:
    points = opened(target).get_metric_history(run.info.run_id, name)
    return sorted((point.step, point.value) for point in points)


def artifact(run: Any, name: str) -> str:
    return (Path(run.info.artifact_uri.removeprefix("file://")) / name).read_text(encoding="utf-8")


def tell(own: Experiments, job: str, step: int, **values: object) -> None:
    own.event(job, START + step, "metrics", rank=0, step=step, **values)
    metrics.rebuild(JobPaths(job))


@pytest.mark.parametrize("name", ["runs", "runs.db"])
def test_mlflow_reads_what_was_exported(own: Experiments, tmp_path: Path, name: str) -> None:
    capsule = {
        "request": {"model": "m", "args": ["--lr", "0.1", "--../../x", "y", *(f"--o{n}={n}" for n in range(150))]},
        "code": {"git": {"commit": "c0ffee"}},
    }
    JobPaths("one").config.write_text(json.dumps(capsule))
    tell(own, "two", 4, **{"../../../escape": 1.0, "a/b": 2.0, "a": 4.0})
    own.store.set_tags("one", ["paper:1", "a/b", "a", "a/../c", "d//e/"])
    own.store.set_note("one", "a note")
    target = tmp_path / name
    assert "2 jobs" in export("one", "two", "-o", target).output
    found = {run.info.run_name: run for run in runs_of(target)}
    assert sorted(found) == ["one", "two"]
    one, two = found["one"], found["two"]
    assert (one.info.status, two.info.status) == ("FINISHED", "FAILED")
    assert history(target, one, "training_loss") == [(1, 3.0), (3, 1.0)]
    (first, *_) = opened(target).get_metric_history(one.info.run_id, "throughput_tokens_sec")
    assert first.timestamp == int(START + 1) * 1000
    assert (one.data.metrics["final.loss_best"], two.data.metrics["final.loss_last"]) == (1.0, 2.0)
    assert one.data.params["lr"] == "0.1" and len([key for key in one.data.params if key[0] == "o"]) == 150
    tagged = {value for key, value in one.data.tags.items() if key.startswith("ugro.tag.")}
    assert tagged == {"paper:1", "a/b", "a", "a/../c", "d//e/"}
    assert one.data.tags["ugro.tag.a"] == "a" and one.data.tags["mlflow.source.git.commit"] == "c0ffee"
    assert one.data.tags["mlflow.note.content"] == artifact(one, "note.md") == "a note"
    assert json.loads(artifact(one, "ugro.json"))["results"]["loss_last"] == {"step": 3, "loss": 1.0}
    told = {thing: key.removeprefix("ugro.name.") for key, thing in two.data.tags.items() if "ugro.name." in key}
    assert {two.data.metrics[told[thing]] for thing in ("../../../escape", "a/b")} == {1.0, 2.0}
    assert two.data.metrics["a"] == 4.0
    assert not [path for path in tmp_path.glob("**/*escape*") if not path.is_relative_to(target)]


def test_names_that_look_alike_stay_apart(own: Experiments, tmp_path: Path) -> None:
    names = {"a:b": 1.0, "a_b": 2.0, "a?b": 3.0, "final.loss_best": 4.0, "é" * 60: 5.0, "é" * 61: 6.0}
    tell(own, "one", 4, **names)
    export("one", "-o", tmp_path / "runs")
    (run,) = runs_of(tmp_path / "runs")
    assert run.data.metrics["a_b"] == 2.0 and run.data.metrics["final.loss_best"] == 1.0
    told = {thing: key.removeprefix("ugro.name.") for key, thing in run.data.tags.items() if "ugro.name." in key}
    assert {thing: run.data.metrics[told.get(thing, thing)] for thing in names} == names


def test_no_two_things_have_one_name() -> None:
    names = Names()
    awkward = ["a:b", "a_b", names.of("a:b"), ".", "..", "-", "", "/", " a", "a", "a ", "A", "\ud800", "é", "x" * 201]
    given = [names.of(thing) for thing in awkward]
    assert len(set(given)) == len(awkward) and given == [names.of(thing) for thing in awkward]
    assert all(name.isascii() and not set(name) & set("/:\\") and name not in (".", "..") for name in given)
    assert Names().of("a:b") == given[0], "the same in every run"


def test_of_a_long_job_extremes_are_kept_and_the_rest_is_told(own: Experiments, tmp_path: Path) -> None:
    with JobPaths("one").metrics.open("w") as stream:
        for step in range(1, 3001):
            loss = 9.0 if step == 1234 else 0.5 if step == 2345 else 3.0 + step % 7 / 10
            stream.write(json.dumps({"attempt": 1, "rank": 0, "step": step, "training_loss": loss}) + "\n")
    said = export("one", "-o", tmp_path / "few", "--points", 100).output
    (run,) = runs_of(tmp_path / "few")
    points = history(tmp_path / "few", run, "training_loss")
    assert {(1, 3.1), (1234, 9.0), (2345, 0.5)} <= set(points) and points[-1][0] == 3000 and len(points) <= 100
    assert f"{3000 - len(points):,} points were left out" in said
    assert run.data.tags["ugro.points_left_out"] == str(3000 - len(points))
    said = json.loads(export("one", "-o", tmp_path / "all.db", "--points", "all", "--json").output)
    (run,) = runs_of(tmp_path / "all.db")
    assert len(history(tmp_path / "all.db", run, "training_loss")) == 3000 and said["left_out"] == 0
    with pytest.raises(Exception, match="neither"):
        export("one", "-o", tmp_path / "x", "--points", "few")
    with pytest.raises(Exception, match="--points is for"):
        ugro("export", "one", "-o", tmp_path / "x.csv", "--points", "9")


def test_how_far_it_is_is_told(own: Experiments, tmp_path: Path) -> None:
    told: list[int] = []
    found = [doors.details("one"), doors.details("two")]
    written = report_mlflow.write(found, tmp_path / "runs", tell=told.append)
    figures = sum(len(list(report_mlflow._figures(job["results"]))) for job in found)
    assert len(told) > 2 and sum(told) + figures == written.numbers


def test_what_is_no_number_is_no_point() -> None:
    steps = np.arange(10)
    values = np.array([np.nan, 1e308, -1e308, np.inf, 0, 1, 2, -np.inf, 3, np.nan])
    kept = thinned(steps, steps * 1.0, values, 4)
    assert set(kept[0].tolist()) == {1, 2, 8} and kept[3] == 3
    assert thinned(steps[:0], steps[:0], values[:0], 4)[3] == 0


def test_a_long_note_is_whole_in_the_artifacts(own: Experiments, tmp_path: Path) -> None:
    note = "né\n" * 6000
    own.store.set_note("one", note)
    export("one", "-o", tmp_path / "runs")
    (run,) = runs_of(tmp_path / "runs")
    shown = run.data.tags["mlflow.note.content"]
    assert len(shown) <= 8000 and shown.endswith("(cut here: the whole note is the artifact note.md)")
    assert artifact(run, "note.md").strip() == note.strip()


@pytest.mark.parametrize("name", ["runs", "runs.db"])
def test_a_job_is_there_once(own: Experiments, tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    export("one", "-o", target)
    (old,) = runs_of(target)
    with pytest.raises(UsageError, match="it is there already"):
        export("one", "two", "-o", target)
    assert [run.info.run_id for run in runs_of(target)] == [old.info.run_id], "nothing of the other job either"
    export("one", "two", "-o", target, "--force")
    new = {run.info.run_name: run.info.run_id for run in runs_of(target)}
    assert sorted(new) == ["one", "two"] and new["one"] != old.info.run_id
    opened(target).restore_run(old.info.run_id)
    assert len(runs_of(target)) == 3


def test_an_export_that_fails_midway_is_no_run_that_runs(own: Experiments, tmp_path: Path) -> None:
    """A real full disk is not at hand: the process may write no file above a size."""
    with JobPaths("one").metrics.open("w") as stream:
        for step in range(1, 5001):
            stream.write(json.dumps({"attempt": 1, "rank": 0, "step": step, "training_loss": 3.0 + 1 / step}) + "\n")
    target, details = tmp_path / "runs", doors.details("one")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(StateError, match=r"File too large.*FAILED"):
            report_mlflow.write([details], target, points=None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (run,) = runs_of(target)
    assert run.info.status == "FAILED" and run.data.tags["ugro.export"].startswith("failed")
    export("one", "-o", target, "--points", "all")
    (whole,) = runs_of(target)
    assert whole.info.run_id != run.info.run_id and len(history(target, whole, "training_loss")) == 5000


def test_a_target_that_is_something_else(own: Experiments, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.db").mkdir()
    (tmp_path / "text.db").write_text("no database at all, " * 100)
    for name in ("file", "folder.db"):
        with pytest.raises(UsageError, match="it is a"):
            export("one", "-o", tmp_path / name)
    with pytest.raises(Exception, match="MLflow store"):
        export("one", "-o", tmp_path / "text.db")
    assert (tmp_path / "text.db").read_text().startswith("no database")


def test_missing_folders_are_refused_as_by_the_other_formats(
    own: Experiments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("away/runs/", "away/runs.db", "away/further/runs"):
        with pytest.raises(UsageError, match="there is no folder"):
            export("one", "-o", tmp_path / name)
    with pytest.raises(StateError, match="too long"):
        export("one", "-o", tmp_path / ("x" * 300))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="standard output"):
        export("one", "-o", "-")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    export("one", "-o", "runs.db")
    assert len(runs_of(tmp_path / "runs.db")) == 1


@pytest.mark.timeout(150)
def test_a_database_that_cannot_be_opened_is_told_at_once(own: Experiments, tmp_path: Path) -> None:
    """MLflow itself tries for minutes, and prints each of its errors."""
    (tmp_path / "link.db").symlink_to(tmp_path / "away" / "runs.db")
    with pytest.raises(StateError, match=r"link\.db: unable to open database file"):
        export("one", "-o", tmp_path / "link.db")
