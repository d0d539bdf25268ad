# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What a launch asks for: options, the words of the seed, and the checkpoint to go on from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ugro_py.cluster import Cluster, Node, TrainingDefaults
from ugro_py.errors import UsageError
from ugro_py.paths import JobPaths
from ugro_py.request.job import JobRequest, check, request_of

CLUSTER = Cluster("home", (Node("gpu-master", "10.0.0.1", "master"),), Path("hosts.yml"), training=TrainingDefaults())
NOTHING: dict[str, Any] = dict.fromkeys(
    ("model", "dataset", "epochs", "name", "nodes", "gpus", "batch_size", "gradient_accumulation", "script", "workdir")
) | {"include": (), "exclude": (), "env": (), "args": (), "retry": 0, "stall_timeout": 0.0, "resume": None}


def asked(*words: str, **options: Any) -> JobRequest:
    return request_of(CLUSTER, NOTHING | options | {"args": words})


def test_words_are_options() -> None:
    request = asked("model=llama-7b", "dataset=wikitext", "nodes=3", "epochs=2", "name=experiment_v1", "--seed", "1")
    assert (request.model, request.dataset, request.nodes, request.epochs) == ("llama-7b", "wikitext", 3, 2)
    assert request.name == "experiment_v1"
    assert request.args == ("--seed", "1")


def test_words_of_a_script_are_its_own() -> None:
    assert asked("model=x", script="train.py").args == ("model=x",)


@pytest.mark.parametrize(
    ("words", "options", "said"),
    [
        (("epochs=many",), {}, "not a number"),
        (("model=a", "model=b"), {}, "given twice"),
        (("model=a",), {"model": "b"}, "given twice"),
        (("mode=a",), {}, "no option of the training"),
        (("model=a", "launch"), {}, "no option of the training"),
    ],
)
def test_words_that_cannot_be_meant(words: tuple[str, ...], options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        asked(*words, **options)


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one checkpoint of the job `earlier`."""
    monkeypatch.setenv("UGRO_DATA", str(tmp_path))
    path = JobPaths("earlier").checkpoints / "epoch_1.pt"
    path.parent.mkdir(parents=True)
    path.write_text("weights")
    path.with_name("epoch_1.pt.json").write_text(json.dumps({"step": 9, "complete": True, "size": 7}))
    return path


def test_resume_takes_a_job_or_a_path(checkpoint: Path) -> None:
    assert check(JobRequest("new", resume="earlier"), ask_hub=False).resume == str(checkpoint)
    assert check(JobRequest("new", resume=str(checkpoint)), ask_hub=False).resume == str(checkpoint)


@pytest.mark.parametrize("wanted", ["nobody", "/no/such/file", "../earlier", "{{ 1 }}"])
def test_resume_from_nothing_is_refused(checkpoint: Path, wanted: str) -> None:
    with pytest.raises(UsageError, match="no job and no file"):
        check(JobRequest("new", resume=wanted), ask_hub=False)


def test_resume_from_a_job_without_checkpoints_is_refused(checkpoint: Path) -> None:
    checkpoint.unlink()
    with pytest.raises(UsageError, match="no complete checkpoint"):
        check(JobRequest("new", resume="earlier"), ask_hub=False)
