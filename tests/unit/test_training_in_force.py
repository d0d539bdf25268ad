# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The options of UGRO's own training that are in force: as the training itself has them, in capsules, compared."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ugro_py import capsule, paths
from ugro_py.cluster import Cluster, TrainingDefaults
from ugro_py.experiments.diff import differences
from ugro_py.paths import JobPaths
from ugro_py.plan import Gang
from ugro_py.queue import spool
from ugro_py.queue.spool_train import Training
from ugro_py.request import training
from ugro_py.request.job import JobRequest
from ugro_py.stage import bundle

TRAIN = Path(__file__).parents[2] / "train"


def said_by_the_training(code: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", f"import json, sys; sys.path.insert(0, {str(TRAIN)!r})\n{code}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def test_defaults_and_what_is_given_are_those_of_its_own_parser() -> None:
    words = ["--batch-size", "7", "--amp=bf16", "--num-epochs", "3", "--learning-rate", "5e-5", "--learning-rate=1e-4"]
    parsed = said_by_the_training(f"import options; print(json.dumps(vars(options.parse({words!r}, ''))))")
    parsed["epochs"] = parsed["num_epochs"]
    found = training.in_force(words, "owner/model")
    assert found.pop("seq_len") == 512, "the parser leaves it to the model"
    assert {"weight_decay", "warmup_steps", "gradient_accumulation"} < set(found)
    assert found == {name: parsed[name] for name in found}
    assert training.given(["--hf-token", "hunter2", "--amp", "hunter2", "--seq-len"]) == {}


@pytest.mark.torch
def test_models_decide_as_they_do_in_the_training() -> None:
    pytest.importorskip("torch")
    code = "import model\nprint(json.dumps({n: vars(model.preset(n)) for n in [*model.PRESETS, 'owner/model']}))"
    for name, preset in said_by_the_training(code).items():
        found = training.in_force([], name)
        for key in ("batch_size", "learning_rate", "seq_len"):
            assert found[key] == preset[key], (name, key)


def write(
    name: str, defaults: TrainingDefaults | None = None, code: Path | None = None, **asked: Any
) -> dict[str, Any]:
    """Write the capsule of a job, and return it."""
    JobPaths(name).root.mkdir(parents=True, exist_ok=True)
    cluster = Cluster(name="lab", source=Path("hosts.yml"), nodes=(), training=defaults or TrainingDefaults())
    gang = Gang(name, 1, (), "10.0.0.1", 29500, "token")
    path = capsule.write(gang, JobRequest(name, **asked), cluster, {}, {}, "ob", "digest", None, code)
    return dict(json.loads(path.read_text()))


def compared(*jobs: str) -> dict[str, tuple[Any, ...]]:
    return {row.key: row.values for row in differences(jobs, [{}] * len(jobs)) if row.section == "hyper-parameters"}


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UGRO_DATA", str(tmp_path))


def test_what_nobody_gave_is_compared_too() -> None:
    write("usual")
    write("other", gradient_accumulation=16, args=("--learning-rate", "0.1", "--seed", "7"))
    write("inventory", TrainingDefaults(batch_size_per_gpu=9))
    found = compared("usual", "other", "inventory")
    assert found["gradient_accumulation"] == (1, 16, 1)
    assert found["learning_rate"] == (0.003, 0.1, 0.003)
    assert found["batch_size"] == (2, 2, 9)
    assert found["seed"] == (42, 7, 42)
    assert not [key for key in found if key.startswith("-")], "each is told once"


def test_a_script_has_its_own_options() -> None:
    made = write("script", script="train_production.py", workdir="/x", args=("--learning-rate", "0.1"))
    assert made["training"] is None
    found = compared("script")
    assert found["--learning-rate"] == ("0.1",) and "learning_rate" not in found


def test_older_capsules_tell_what_was_given() -> None:
    made = write("older", gradient_accumulation=4, args=("--learning-rate", "0.1", "--grad-clip=0.5"))
    del made["training"]
    JobPaths("older").config.write_text(json.dumps(made))
    write("newer")
    found = compared("older", "newer")
    assert found["gradient_accumulation"] == (4, 1)
    assert found["learning_rate"] == (0.1, 0.003)
    assert found["grad_clip"] == (0.5, 1.0)
    assert found["weight_decay"] == (None, 0.1), "what the default was then is not known"


def test_a_job_that_waited_during_an_upgrade_has_the_defaults_of_the_code_that_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "installed"
    shutil.copytree(TRAIN, installed, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(paths, "train_dir", lambda: installed)
    JobPaths("waited").root.mkdir(parents=True)
    spool.commit(Training().spool(), "waited")
    options = installed / "options.py"
    options.write_text(re.sub(r'(add\("--weight-decay",.*default=)[\d.]+', r"\g<1>0.7", options.read_text()))
    for name in ("waited", "newer"):
        code = spool.load(name).code if spool.exists(name) else bundle(installed)
        assert write(name, code=code.root)["training"]["weight_decay"] == {"waited": 0.1, "newer": 0.7}[name]
    assert compared("waited", "newer")["weight_decay"] == (0.1, 0.7)


@pytest.mark.parametrize("text", [None, "def (", 'add("--lr", default=1', "add()"])
def test_of_code_that_is_too_old_only_what_was_given_is_told(tmp_path: Path, text: str | None) -> None:
    code = tmp_path / "code"
    code.mkdir()
    if text is not None:
        (code / "options.py").write_text(text)
        (code / "model.py").write_text("")
    made = write("older", code=code, args=("--learning-rate", "0.1"))
    assert made["training"] == {}
    assert compared("older")["learning_rate"] == (0.1,)
