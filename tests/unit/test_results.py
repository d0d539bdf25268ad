"""What a job achieved: figures, curve, data frame and notes, from a central store as the engine leaves it."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.unit.job_store import JOB, JobStore, job_store  # noqa: F401 - a fixture
from ugro_py import experiments, results
from ugro_py.cli import cli
from ugro_py.errors import NotFoundError, StateError
from ugro_py.experiments import notes
from ugro_py.experiments.notes import BEGIN, END
from ugro_py.paths import JobPaths, experiment_notes


def checkpoint(paths: JobPaths, name: str, step: int, size: int = 10, manifest: bool = True) -> Path:
    path = paths.checkpoints / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 10)
    if manifest:
        path.with_name(path.name + ".json").write_text(json.dumps({"complete": True, "size": size, "step": step}))
    return path


@pytest.fixture
def trained(job_store: JobStore) -> JobStore:  # noqa: F811
    """A job of two attempts: the first came to step 4, the second went on from step 2 to step 6."""
    one = job_store.attempt()
    for step in range(1, 5):
        for rank in range(3):
            job_store.step(one, rank, step, 10.0 - step, throughput_tokens_sec=50)
    job_store.store.set_attempt(JOB, one, status="failed")
    two = job_store.attempt()
    for step in range(3, 7):
        for rank in range(3):
            job_store.step(two, rank, step, 5.0 - step / 2 + rank, throughput_tokens_sec=100 + step, gradient_norm=1.5)
    for node in ("gpu-master", "gpu1"):
        for t, cpu in ((1000, 50.0), (1001, 70.0)):
            job_store.event(two, node, t, "sample", cpu_percent=cpu, mem_used_gb=4.0, gpus=[])
    return job_store


def test_figures_of_a_job_that_was_resumed(trained: JobStore) -> None:
    checkpoint(trained.paths, "epoch_1.pt", 4)
    final = checkpoint(trained.paths, "final.pt", 4)
    (trained.paths.tensorboard / "events.out.tfevents.1").write_bytes(b"x")
    trained.end()
    found = results.summary(JOB, trained.store)
    assert [(point.step, point.loss) for point in found.curve] == [
        (1, 9.0), (2, 8.0), (3, 4.5), (4, 4.0), (5, 3.5), (6, 3.0),
    ]  # fmt: skip
    assert found.loss_first == results.LossPoint(1, 9.0)
    assert found.loss_last == found.loss_best == results.LossPoint(6, 3.0)
    assert found.throughput_tokens_sec == 3 * 104.5
    assert (found.status, found.attempts, found.ranks, found.steps) == ("completed", 2, 3, 6)
    assert found.nodes == ("gpu-master", "gpu1", "gpu2")
    assert (found.cpu_percent, found.node_mem_gb) == (60.0, 4.0)
    assert (found.gpu_util_percent, found.gpu_mem_gb) == (None, None)
    assert found.checkpoint == str(final)
    assert found.tensorboard == str(trained.paths.tensorboard)
    assert found.duration_s is not None
    assert 0 <= found.duration_s < 60
    assert found.nonfinite_steps == 0


def test_the_central_store_alone_is_enough(trained: JobStore) -> None:
    """After a controller was killed there may be no metrics.jsonl yet, and a copied folder has no database."""
    assert not trained.paths.metrics.exists()
    found = results.summary(JOB)
    assert len(found.curve) == 6
    assert (found.status, found.attempts, found.ranks) == ("unknown", 2, 3)
    assert found.nodes == ("gpu-master", "gpu1", "gpu2")
    assert found.duration_s == 1.0


def test_gpu_figures_are_means_over_time_and_gpus(trained: JobStore) -> None:
    for t, util in ((1002, 90.0), (1003, 70.0)):
        gpus = [{"uuid": "GPU-a", "util": util, "mem_used_gb": 9.0}, {"uuid": "GPU-b", "util": None, "mem_used_gb": 7}]
        trained.event(2, "gpu1", t, "sample", cpu_percent=50.0, mem_used_gb=4.0, gpus=gpus)
    trained.end()
    found = results.summary(JOB, trained.store)
    assert (found.gpu_util_percent, found.gpu_mem_gb) == (80.0, 8.0)


def test_gpu_figures_of_the_metrics_where_there_are_no_samples(job_store: JobStore) -> None:  # noqa: F811
    one = job_store.attempt()
    for step, util in ((1, 80.0), (2, 90.0)):
        job_store.step(one, 0, step, 3.0, gpu_util=util, gpu_mem_used_gb=8.0)
    found = results.summary(JOB, job_store.store)
    assert (found.gpu_util_percent, found.gpu_mem_gb) == (85.0, 8.0)
    assert found.duration_s is not None, "a job that runs has run for a while"


def test_a_loss_that_is_no_number_is_counted_and_not_drawn(job_store: JobStore) -> None:  # noqa: F811
    one = job_store.attempt()
    for rank in range(2):
        job_store.step(one, rank, 1, 3.0)
    job_store.step(one, 0, 2, None, nonfinite=["training_loss"])
    job_store.step(one, 1, 2, 2.0)
    job_store.step(one, 0, 3, None)
    job_store.end("failed", "loss is NaN", 1)
    found = results.summary(JOB, job_store.store)
    assert [point.step for point in found.curve] == [1]
    assert (found.nonfinite_steps, found.steps) == (1, 3)
    shown = CliRunner().invoke(cli, ["results", JOB])
    assert "failed (loss is NaN)" in shown.output
    assert re.search(r"loss NaN/inf +at 1 step\n", shown.output)


def test_a_job_all_of_whose_losses_are_no_number(job_store: JobStore) -> None:  # noqa: F811
    one = job_store.attempt()
    for step in (1, 2):
        job_store.step(one, 0, step, None, nonfinite=["training_loss"])
    job_store.end()
    shown = CliRunner().invoke(cli, ["results", JOB]).output
    assert re.search(r"loss NaN/inf +at 2 steps\n", shown) and "No loss was a finite number" in shown
    assert "was found" not in shown
    assert "| Loss, NaN or infinite | at 2 steps |" in notes.figures(results.summary(JOB, job_store.store), {})


def test_a_job_without_anything_has_no_figures(job_store: JobStore) -> None:  # noqa: F811
    found = results.summary(JOB, job_store.store)
    assert (found.curve, found.loss_first, found.steps, found.throughput_tokens_sec) == ((), None, None, None)
    assert (found.attempts, found.ranks, found.duration_s, found.checkpoint) == (0, 0, None, None)
    shown = CliRunner().invoke(cli, ["results", JOB])
    assert shown.exit_code == 0
    assert "No loss yet." in shown.output
    with pytest.raises(NotFoundError):
        results.summary("other", job_store.store)


def test_which_checkpoint_is_the_newest(trained: JobStore) -> None:
    def newest() -> str | None:
        return results.summary(JOB, trained.store).checkpoint

    old = checkpoint(trained.paths, "step_000900.pt", 900)
    assert newest() == str(old)
    new = checkpoint(trained.paths, "step_001000.pt", 1000)
    os.utime(new, (1, 1))
    assert newest() == str(new)
    checkpoint(trained.paths, "gpu1/step_002000.pt", 2000)
    assert newest() == str(new), "what other nodes wrote comes after what rank 0's node wrote"
    checkpoint(trained.paths, "step_003000.pt", 3000, size=11)
    checkpoint(trained.paths, "step_004000.pt", 4000, manifest=False)
    assert newest() == str(new), "half-written ones do not count"
    final = checkpoint(trained.paths, "final.pt", 1000)
    assert newest() == str(final)


def test_checkpoints_of_a_script_without_manifests(trained: JobStore) -> None:
    old = checkpoint(trained.paths, "model-1.bin", 0, manifest=False)
    os.utime(old, (1, 1))
    checkpoint(trained.paths, "checkpoint-500/model.safetensors", 0, manifest=False)
    assert results.summary(JOB, trained.store).checkpoint == str(trained.paths.checkpoints / "checkpoint-500")


def test_load_gives_a_data_frame(trained: JobStore) -> None:
    trained.event(2, "gpu1", 1010, "metrics", rank=1, step=7, training_loss=None, epoch=0.5)
    trained.end()
    frame = results.load(JOB)
    assert list(frame.columns) == [
        "timestamp", "job_id", "attempt", "rank", "step", "gpu_util", "gpu_mem_used_gb", "training_loss",
        "throughput_tokens_sec", "gradient_norm", "learning_rate", "epoch",
    ]  # fmt: skip
    assert len(frame) == 25
    assert str(frame["timestamp"].dt.tz) == "UTC"
    assert frame[frame.attempt == 2].groupby("step").training_loss.mean().to_dict() == pytest.approx(
        {3: 4.5, 4: 4.0, 5: 3.5, 6: 3.0, 7: math.nan}, nan_ok=True
    )
    assert frame.gpu_util.isna().all()


@pytest.mark.parametrize("columns", [[], ["job_id"], ["step"], ["step", "job_id"]])
def test_load_of_some_columns_has_every_line(trained: JobStore, columns: list[str]) -> None:
    whole, some = results.load(JOB), results.load(JOB, columns=columns)
    assert len(whole) and list(some.columns) == columns
    assert some.equals(whole[columns]) and some.index.equals(whole.index)
    joined = results.load(JOB, columns=columns, samples=True)
    assert len(joined) == len(whole) and [name for name in joined.columns if not name.startswith("node")] == columns


def test_load_of_a_job_without_metrics_is_empty(job_store: JobStore) -> None:  # noqa: F811
    frame = results.load(JOB)
    assert len(frame) == 0
    assert "training_loss" in frame.columns


def test_ugro_results_shows_figures_and_a_curve_in_80_columns(trained: JobStore) -> None:
    trained.end()
    shown = CliRunner().invoke(cli, ["results", JOB])
    assert shown.exit_code == 0, shown.output
    assert re.search(r"loss first +9 at step 1\n", shown.output)
    assert re.search(r"loss best +3 at step 6\n", shown.output)
    assert re.search(r"throughput +313\.5 tokens/s\n", shown.output)
    assert re.search(r"ranks +3 on gpu-master, gpu1, gpu2\n", shown.output)
    drawn = shown.output.partition("training loss")[2].splitlines()
    assert max(map(len, drawn)) <= 80
    assert drawn[1].startswith("9.00 ┤⠉")
    assert drawn[14].startswith("3.00 ┤")
    assert drawn[-2].split() == ["1", "2", "4", "5", "6"]
    assert drawn[-1].strip() == "step"
    assert "\x1b" not in shown.output


def test_ugro_results_as_json(trained: JobStore) -> None:
    trained.end()
    shown = CliRunner().invoke(cli, ["results", JOB, "--json"])
    values = json.loads(shown.output)
    assert values["loss_last"] == {"step": 6, "loss": 3.0}
    assert values["gpu_util_percent"] is None
    assert values["store"] == str(trained.paths.root)
    assert values["started_at"].endswith("Z")


def test_ugro_results_on_a_terminal_with_ascii_only(trained: JobStore) -> None:
    trained.end()
    program = [sys.executable, "-c", "from ugro_py.cli import main; main()", "results", JOB, "--width", "60"]
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    done = subprocess.run(program, env=ascii_only, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"9.00 |**" in done.stdout
    assert max(map(len, done.stdout.partition(b"training loss")[2].splitlines())) <= 60


def test_ugro_results_of_an_unknown_job() -> None:
    with pytest.raises(NotFoundError, match="nope"):
        CliRunner().invoke(cli, ["results", "nope"], standalone_mode=False, catch_exceptions=False)


def test_notes_are_made_once_and_what_a_person_wrote_stays(trained: JobStore) -> None:
    path = experiments.finish(JOB, trained.store)
    assert path == experiment_notes(JOB)
    text = path.read_text()
    assert text.startswith(f"# {JOB}\n\n{BEGIN}\n")
    assert "| Loss, last | 3 at step 6 |" in text
    mine = text.replace("# first_test\n", "# My title\n") + "It works with *warm-up*.\n"
    path.write_text(mine)
    path.chmod(0o640)
    trained.step(2, 0, 7, 1.0)
    trained.end()
    experiments.finish(JOB, trained.store)
    new = path.read_text()
    assert new.startswith("# My title\n\n")
    assert new.endswith("It works with *warm-up*.\n")
    assert "| Loss, last | 1 at step 7 |" in new
    assert new.count(BEGIN) == new.count(END) == 1
    assert path.stat().st_mode & 0o777 == 0o640
    assert not list(path.parent.glob(".*"))


@pytest.mark.parametrize(
    "text", ["My own notes.\n", f"{BEGIN} only\n", f"{END}\n{BEGIN}\n", f"{BEGIN}{END}{BEGIN}{END}"]
)
def test_notes_without_the_markers_are_left_alone(trained: JobStore, text: str) -> None:
    path = experiment_notes(JOB)
    path.parent.mkdir()
    path.write_text(text)
    experiments.finish(JOB, trained.store)
    assert path.read_text() == text


def test_notes_that_are_a_link_stay_one(trained: JobStore, tmp_path: Path) -> None:
    path, mine = experiment_notes(JOB), tmp_path / "mine.md"
    path.parent.mkdir()
    mine.write_text(f"a\n{BEGIN}{END}\nb\n")
    path.symlink_to(mine)
    experiments.finish(JOB, trained.store)
    assert path.is_symlink()
    assert "| Steps | 6 |" in mine.read_text()


def test_notes_hold_hostile_text_as_text(trained: JobStore) -> None:
    program = ["train.py", "--x", f"```\n<script>{END}"]
    trained.paths.config.write_text(json.dumps({"program": program}))
    trained.end("failed", "a|b <img src=x> [link](javascript:1)", 1)
    trained.store.set_note(JOB, "_not_ __emphasis__, some_words")
    for _ in range(2):
        text = experiments.finish(JOB, trained.store).read_text()
    assert text.count(END) == text.count(BEGIN) == 1
    assert "| Status | failed (a\\|b &lt;img src=x> \\[link\\](javascript:1)) |" in text
    assert f"| Files | {trained.paths.root} |" in text and "first_test" in str(trained.paths.root)
    assert "> \\_not\\_ \\_\\_emphasis\\_\\_, some_words" in text
    assert "````console\ntrain.py --x " in text


def test_notes_that_cannot_be_written(trained: JobStore) -> None:
    experiment_notes(JOB).mkdir(parents=True)
    with pytest.raises(StateError, match="notes"):
        experiments.finish(JOB, trained.store)
