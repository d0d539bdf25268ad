# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The shipped training, as real processes: the same numbers again, after a resume, and with another number of ranks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ugro_py import paths

pytestmark = [pytest.mark.torch, pytest.mark.slow]
pytest.importorskip("torch")
pytest.importorskip("transformers")

SCRIPT = paths.train_dir() / "train_production.py"
EPOCHS, STEPS_PER_EPOCH, SAVE_EVERY = 2, 5, 3
LAST = EPOCHS * STEPS_PER_EPOCH
SEED_FIELDS = [
    "timestamp", "job_id", "rank", "step", "gpu_util", "gpu_mem_used_gb", "training_loss", "throughput_tokens_sec",
    "gradient_norm", "learning_rate",
]  # fmt: skip
OUR_FIELDS = ["epoch", "total_steps", "step_time_s", "data_time_s", "wait_time_s", "cpu_time_s"]


@dataclass(frozen=True)
class Place:
    """Where runs of this test have their cache, and the text they train on."""

    root: Path
    text: Path

    def env(self, folder: Path, **more: str) -> dict[str, str]:
        """Return the environment of a rank that works in `folder`; there is no hub and no GPU."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("UGRO_", "HF_", "TORCH"))}
        return kept | {
            "HOME": str(self.root), "UGRO_CACHE": str(self.root / "cache"), "UGRO_JOB_ID": "job_001",
            "UGRO_CHECKPOINT_DIR": str(folder / "checkpoints"), "UGRO_TENSORBOARD_DIR": str(folder / "tensorboard"),
            "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
            "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(self.root / "hf"), **more,
        }  # fmt: skip

    def options(self, *more: object, batch_size: int) -> list[str]:
        """Return the options of a short run; `batch_size` is that of one rank."""
        options = [
            "--dataset", self.text, "--seq-len", 64, "--epochs", EPOCHS, "--batch-size", batch_size, "--seed", 7,
            "--warmup-steps", 2, "--checkpoint-every", SAVE_EVERY, *more,
        ]  # fmt: skip
        return [str(option) for option in options]


@dataclass(frozen=True)
class Run:
    """What a run left in its folder, and what it printed."""

    folder: Path
    output: str

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def lines(self, rank: int = 0) -> list[dict[str, Any]]:
        return [json.loads(line) for line in metrics_file(self.folder, rank).read_text().splitlines()]

    def numbers(self, rank: int = 0) -> list[tuple[int, float, float, float]]:
        """Return what must be equal to the bit in equal runs: step, loss, gradient norm, learning rate."""
        return [(e["step"], e["training_loss"], e["gradient_norm"], e["learning_rate"]) for e in self.lines(rank)]


def metrics_file(folder: Path, rank: int) -> Path:
    return folder / "metrics" / f"rank_{rank}.jsonl"


def alone(
    place: Place, folder: Path, options: Sequence[str], code: str | None = None, **env: str
) -> subprocess.Popen[str]:
    """Start a single process, without torchrun: the script, or `code`."""
    env["UGRO_METRICS_FILE"] = str(metrics_file(folder, 0))
    program = ["-c", code] if code else [str(SCRIPT)]
    return subprocess.Popen(
        [sys.executable, *program, *options], env=place.env(folder, **env), cwd=place.root,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def end(process: subprocess.Popen[str], folder: Path, code: int = 0) -> Run:
    try:
        output = process.communicate(timeout=240)[0]
    finally:
        process.kill()
    assert process.returncode == code, output
    return Run(folder, output)


def two_ranks(place: Place, folder: Path, options: Sequence[str]) -> Run:
    """Train with two gloo ranks under a real torchrun."""
    wrapper = place.root / "rank.py"  # names each rank's metrics file, as UGRO does on a node
    wrapper.write_text(
        "import os, runpy, sys\n"
        "os.environ['UGRO_METRICS_FILE'] = os.path.join(sys.argv[1], 'metrics', f\"rank_{os.environ['RANK']}.jsonl\")\n"
        f"sys.argv = [{str(SCRIPT)!r}, *sys.argv[2:]]\n"
        f"sys.path[0] = {str(SCRIPT.parent)!r}\n"
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = subprocess.Popen(
        [*torchrun, str(wrapper), str(folder), *options], env=place.env(folder), cwd=place.root,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    return end(process, folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    from pydoc_data.topics import topics

    root = tmp_path_factory.mktemp("training")
    text = root / "some.txt"
    text.write_text("".join(topics[name] for name in sorted(topics))[:13_500])  # 5 steps of 8 sequences of 64 tokens
    return Place(root, text)


@pytest.fixture(scope="module")
def whole(place: Place) -> Run:
    """Two ranks from the beginning to the end."""
    return two_ranks(place, place.root / "whole", place.options(batch_size=4))


@pytest.fixture(scope="module")
def single(place: Place) -> Run:
    """One process that takes all that the two ranks take together."""
    folder = place.root / "single"
    return end(alone(place, folder, place.options(batch_size=8)), folder)


def test_each_rank_tells_each_step_in_the_fields_of_the_seed(whole: Run) -> None:
    for rank in range(2):
        lines = whole.lines(rank)
        assert [line["step"] for line in lines] == list(range(1, LAST + 1))
        for line in lines:
            assert list(line) == SEED_FIELDS + OUR_FIELDS + ["gradient_bytes"] * (line is lines[0])
            assert 0 < line["wait_time_s"] < line["step_time_s"] and line["cpu_time_s"] > 0 < line["gradient_norm"]
            assert (line["job_id"], line["rank"], line["total_steps"]) == ("job_001", rank, LAST)
            assert line["gpu_util"] is line["gpu_mem_used_gb"] is None
    # The loss told is the mean of the gang, so all ranks tell the same.
    assert whole.numbers(0) == whole.numbers(1)
    assert whole.numbers()[-1][1] < whole.numbers()[0][1] - 0.2
    rates = [numbers[3] for numbers in whole.numbers()]
    assert rates.index(max(rates)) == 2 and rates[-1] < rates[2] / 2  # two steps of warm-up, then down
    assert list((whole.folder / "tensorboard").glob("events.out.tfevents.*"))


def test_checkpoints_are_whole_and_say_what_they_hold(whole: Run) -> None:
    files = sorted(path.name for path in whole.checkpoints.iterdir())
    names = ["epoch_1.pt", "epoch_2.pt", "final.pt", "step_000003.pt", "step_000006.pt", "step_000009.pt"]
    assert files == sorted([*names, *(f"{name}.json" for name in names)])  # and nothing half-written
    steps = dict(zip(names, (5, 10, 10, 3, 6, 9), strict=True))
    code = (
        f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import checkpoint; from pathlib import Path;"
        "print([(checkpoint.why_invalid(Path(p)), checkpoint.load(Path(p))['position']['step']) for p in sys.argv[1:]])"
    )
    command = [sys.executable, "-c", code, *(str(whole.checkpoints / name) for name in names)]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=240).stdout
    assert shown.strip() == str([(None, steps[name]) for name in names])
    for name in names:
        manifest = json.loads((whole.checkpoints / f"{name}.json").read_text())
        assert (manifest["complete"], manifest["step"], manifest["world_size"]) == (True, steps[name], 2)
        assert manifest["size"] == (whole.checkpoints / name).stat().st_size
    assert json.loads((whole.checkpoints / "epoch_2.pt.json").read_text())["validation_loss"] > 0


def test_one_seed_gives_the_same_run_and_a_resume_the_rest_of_it(place: Place, whole: Run) -> None:
    """The steps after a resume in mid-epoch are those of the run that was never interrupted, to the bit."""
    folder = place.root / "resumed"
    shutil.copytree(whole.checkpoints, folder / "checkpoints", ignore=shutil.ignore_patterns("*_2*", "final*", "*9*"))
    # A newer one that was cut off: it must be told and passed over.
    torn = folder / "checkpoints" / "step_000009.pt"
    torn.write_bytes((whole.checkpoints / torn.name).read_bytes()[:-1])
    shutil.copy(whole.checkpoints / f"{torn.name}.json", torn.parent)
    resumed = two_ranks(place, folder, place.options("--resume", batch_size=4))
    assert "checkpoint skipped: step_000009.pt" in resumed.output and "step 6" in resumed.output
    assert resumed.numbers() == whole.numbers()[6:]

    again = two_ranks(place, place.root / "again", place.options(batch_size=4))
    assert again.numbers() == whole.numbers()


def test_two_ranks_learn_what_one_process_with_all_their_data_learns(single: Run, whole: Run) -> None:
    for one, two in zip(single.numbers(), whole.numbers(), strict=True):
        assert two == pytest.approx(one, rel=2e-3)


def test_sigterm_saves_and_the_resumed_run_ends_as_if_nothing_had_been(place: Place, single: Run) -> None:
    folder = place.root / "stopped"
    # The signal comes from the process itself: from here it would hit another step each time.
    code = (
        f"import os, signal, sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import train_production as training\n"
        "plain = training.Trainer._step\n"
        "def step(self, batches):\n"
        "    if self.position.step == 3:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return plain(self, batches)\n"
        "training.Trainer._step = step\n"
        "sys.exit(training.main(sys.argv[1:]))\n"
    )
    stopped = end(alone(place, folder, place.options(batch_size=8), code), folder, 128 + signal.SIGTERM)
    assert "stopped by SIGTERM after step 4" in stopped.output
    assert stopped.numbers() == single.numbers()[:4]
    # As UGRO starts the next attempt: by its environment.
    rest = alone(place, folder, place.options(batch_size=8), UGRO_RESUME_FROM=str(folder / "checkpoints"))
    assert end(rest, folder).numbers() == single.numbers()
    # And there is nothing left to do for a third one.
    third = end(alone(place, folder, place.options("--resume", batch_size=8)), folder)
    assert f"nothing left to train: {LAST} steps are done" in third.output


def test_a_resume_with_larger_steps_goes_on_with_the_next_epoch(place: Place, single: Run) -> None:
    """Where less is left of the epoch than one of the new steps; it used to go round in circles for ever."""
    saved = single.checkpoints / "step_000009.pt"  # one step of 8 before the end of epoch 2
    folders = {epochs: place.root / f"larger_{epochs}" for epochs in (EPOCHS, EPOCHS + 1)}
    started = {
        epochs: alone(place, folder, place.options("--resume", saved, "--epochs", epochs, batch_size=16))
        for epochs, folder in folders.items()
    }
    runs = {epochs: end(process, folders[epochs]) for epochs, process in started.items()}
    assert "nothing left to train: 9 steps are done" in runs[EPOCHS].output
    shown = [(line["step"], line["epoch"], line["total_steps"]) for line in runs[EPOCHS + 1].lines()]
    assert shown == [(10, EPOCHS + 1, 11), (11, EPOCHS + 1, 11)]


def test_text_json_lines_parquet_and_folders_are_trained_on(place: Place, tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    text = place.text.read_text()
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": part}) + "\n" for part in text.split("\n\n")))
    parquet.write_table(pa.table({"text": text.split("\n\n")}), tmp_path / "a.parquet")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.md").write_text(text)
    (tmp_path / "folder" / "notes.exe").write_bytes(b"\0")
    # One process for all of them: importing torch and transformers takes longer than the steps.
    code = (
        f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import train_production\n"
        "short = ['--seq-len', '32', '--max-steps', '2', '--log-every', '1']\n"
        "sys.exit(any([train_production.main(['--dataset', name, *short]) for name in sys.argv[1:]]))\n"
    )
    names = [tmp_path / "a.jsonl", tmp_path / "a.parquet", tmp_path / "folder", "python-docs"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, names)], env=place.env(tmp_path / "out"), cwd=tmp_path,
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for name in names:
        assert f"data {name} (" in done.stdout
    assert done.stdout.count("step 2/2 loss") == len(names)


@pytest.fixture
def refusals(place: Place) -> Callable[[dict[str, list[str]]], dict[str, list[str]]]:
    """Run the script with each set of options, all at once; each must end with 2. Return the lines each says."""

    def run(cases: dict[str, list[str]]) -> dict[str, list[str]]:
        folder = place.root / "refused"
        started = {name: alone(place, folder, options) for name, options in cases.items()}
        said = {name: end(process, folder, code=2).output.strip().splitlines() for name, process in started.items()}
        assert not (folder / "checkpoints").exists()
        assert not metrics_file(folder, 0).exists() or metrics_file(folder, 0).read_text() == ""
        return said

    return run


def test_what_does_not_exist_or_cannot_be_reached_is_one_clear_line(
    refusals: Callable[[dict[str, list[str]]], dict[str, list[str]]],
) -> None:
    said = refusals(
        {
            "model": ["--model", "tiny-lama"],
            "data set": ["--dataset", "no-such.txt"],
            "hub data set": ["--dataset", "nobody/nothing"],
            "hub model": ["--model", "nobody/nothing"],
        }
    )
    for lines in said.values():
        assert len(lines) == 1 and lines[0].startswith("train_production.py: "), lines
    assert "unknown model 'tiny-lama'; presets: tiny-llama, " in said["model"][0]
    assert "unknown data set 'no-such.txt'" in said["data set"][0] and "python-docs" in said["data set"][0]
    for name in ("hub data set", "hub model"):
        assert "'nobody/nothing'" in said[name][0] and "hub cannot be reached" in said[name][0]
