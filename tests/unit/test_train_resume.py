# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A checkpoint that a person named is used or refused; that of a retry may give way to an older one, or to none."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

from ugro_py.cluster import Cluster, Node
from ugro_py.plan import Gang, node_spec
from ugro_py.request.job import JobRequest
from ugro_py.scheduler import Gpu, Placement

NODE = Node("gpu-master", "10.0.0.1", "master")
NAMED, OWN = "/data/jobs/earlier/checkpoints/epoch_1.pt", "/data/jobs/mine/checkpoints/step_000003.pt"


@pytest.mark.parametrize(
    ("asked", "attempt", "resume_from", "required"),
    [
        (NAMED, 1, NAMED, "1"),
        (NAMED, 2, NAMED, "1"),  # the first attempt ended before it saved anything
        (NAMED, 2, OWN, ""),
        (None, 1, "", ""),
        (None, 2, OWN, ""),
    ],
)
def test_the_nodes_are_told_whether_a_person_named_the_checkpoint(
    asked: str | None, attempt: int, resume_from: str, required: str
) -> None:
    placements = (Placement(0, NODE.name, 0, Gpu("cpu-0", NODE.name, 0, "cpu", "CPU", None)),)
    gang = Gang("mine", attempt, placements, NODE.address, 29500, "0" * 32, resume_from)
    request = JobRequest.from_dict({"name": "mine", "resume": asked})
    env = node_spec(gang, NODE, request, Cluster("home", (NODE,), Path("hosts.yml")), {"node": {}}, 1)["env"]
    assert (env["UGRO_RESUME_FROM"], env["UGRO_RESUME_REQUIRED"]) == (resume_from, required)


def find(folder: Path, option: str | None = None) -> tuple[object, list[str]]:
    """Look for a checkpoint as the training does; return the state found and the lines said."""
    pytest.importorskip("torch")
    sys.path.insert(0, str(Path(__file__).parents[2] / "train"))
    import resume
    from ranks import Ranks

    said: list[str] = []
    args = argparse.Namespace(resume=option, model_name="tiny-llama")
    return resume.find(args, folder, Ranks(), said.append), said


@pytest.fixture
def garbage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is no checkpoint, from which this rank is to go on."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "UGRO_RESUME_REQUIRED"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "garbage.pt"
    path.write_text("garbage\n")
    monkeypatch.setenv("UGRO_RESUME_FROM", str(path))
    return path


@pytest.mark.torch
@pytest.mark.parametrize("by_option", [False, True], ids=["by UGRO", "by option"])
def test_a_broken_checkpoint_that_a_person_named_ends_the_run(
    garbage: Path, monkeypatch: pytest.MonkeyPatch, by_option: bool
) -> None:
    if not by_option:
        monkeypatch.setenv("UGRO_RESUME_REQUIRED", "1")
    with pytest.raises(Exception, match=r"^cannot resume from .*garbage\.pt: it has no valid manifest") as caught:
        find(garbage.parent / "mine", str(garbage) if by_option else None)
    assert type(caught.value).__name__ == "TrainingError" and caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@pytest.mark.torch
@pytest.mark.parametrize("required", [None, ""])
def test_a_broken_checkpoint_of_a_retry_gives_way(
    garbage: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], required: str | None
) -> None:
    if required is not None:
        monkeypatch.setenv("UGRO_RESUME_REQUIRED", required)
    assert find(garbage.parent / "mine") == (None, ["no checkpoint to resume from: starting from scratch"])
    assert "checkpoint skipped: garbage.pt" in capsys.readouterr().err
