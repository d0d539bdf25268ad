# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What of a folder goes to the nodes, whatever lies in it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from ugro_py.errors import UsageError
from ugro_py.request.job import JobRequest, check
from ugro_py.stage import bundle, checkpoint_bundle


def test_pipes_sockets_and_private_folders_stay_here(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("1")
    (tmp_path / "link").symlink_to("train.py")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    for name in (".ssh", ".ugro", ".git", "__pycache__"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("2")
    assert bundle(tmp_path).files == ("link", "train.py")


def test_names_and_patterns_of_any_bytes(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("1")
    odd = os.fsdecode(b"\xff\xfe.txt")
    (tmp_path / odd).write_text("2")
    assert set(bundle(tmp_path).files) == {"train.py", odd}
    (tmp_path / ".ugroignore").write_bytes(b"\xff\xfe.txt\n# comment\n")
    assert set(bundle(tmp_path).files) == {"train.py", ".ugroignore"}


def test_the_digest_tells_contents_names_and_modes(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("1")
    digests = [bundle(tmp_path).digest]
    script.write_text("2")
    digests.append(bundle(tmp_path).digest)
    script.chmod(0o755)
    digests.append(bundle(tmp_path).digest)
    script.rename(tmp_path / "other.py")
    digests.append(bundle(tmp_path).digest)
    assert len(set(digests)) == 4


def test_a_checkpoint_travels_with_its_manifest(tmp_path: Path) -> None:
    for name in ("epoch_1.pt", "epoch_1.pt.json", "epoch_2.pt"):
        (tmp_path / name).write_text(name)
    assert checkpoint_bundle(tmp_path / "epoch_1.pt").files == ("epoch_1.pt", "epoch_1.pt.json")
    assert checkpoint_bundle(tmp_path / "epoch_2.pt").files == ("epoch_2.pt",)


def test_a_home_is_not_copied_to_every_node_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "train.py").write_text("1")
    with pytest.raises(UsageError, match="would be copied to every node"):
        check(JobRequest("new", script="~/train.py"))
    assert check(JobRequest("new", script="~/train.py", workdir="~")).script == "train.py"


def test_the_central_store_stays_here_whatever_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("train.py", "my/store/jobs/old/attempts/1/gang.json", "my/code.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    monkeypatch.setenv("UGRO_DATA", str(tmp_path / "my" / "store"))
    assert bundle(tmp_path).files == ("train.py", "my/code.py")
    # What lies in the store itself, the code of a job that waits, goes all the same.
    assert bundle(tmp_path / "my" / "store" / "jobs" / "old").files == ("attempts/1/gang.json",)
