# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Files that a hostile job leaves on its nodes must not lead the agent, which may be root, out of the job's folder."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from ugro_py.cluster import Node
from ugro_py.collect import move_into
from ugro_py.stage import rsync


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A copy that has just arrived, where it goes, and a folder outside with a secret."""
    part, target, outside = (tmp_path / name for name in (".part", "checkpoints", "outside"))
    for folder in (part, target, outside):
        folder.mkdir()
    (outside / "shadow").write_text("secret")
    return part, target, outside


def test_links_out_of_the_folder_are_dropped(places: tuple[Path, Path, Path]) -> None:
    part, target, outside = places
    (part / "real.pt").write_text("weights")
    (part / "latest.pt").symlink_to("real.pt")
    (part / "sub").mkdir()
    (part / "sub" / "up.pt").symlink_to("../real.pt")
    (part / "absolute").symlink_to(outside / "shadow")
    (part / "relative").symlink_to("../outside/shadow")
    (part / "inside_absolute").symlink_to(part / "real.pt")
    move_into(part, target)
    assert sorted(str(path.relative_to(target)) for path in target.rglob("*")) == [
        "latest.pt", "real.pt", "sub", "sub/up.pt",
    ]  # fmt: skip
    assert (target / "latest.pt").read_text() == (target / "sub" / "up.pt").read_text() == "weights"


@pytest.mark.parametrize("place", ["a", "deep/a"])
def test_no_file_goes_through_a_link_of_an_earlier_attempt(places: tuple[Path, Path, Path], place: str) -> None:
    part, target, outside = places
    link = target / place
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(outside)  # it was a file when it was collected, and was changed since by its owner
    (part / place).mkdir(parents=True)
    (part / place / "evil").write_text("as the agent")
    move_into(part, target)
    assert sorted(path.name for path in outside.iterdir()) == ["shadow"]
    assert (link / "evil").read_text() == "as the agent" and not link.is_symlink()


def test_the_folder_of_a_node_is_no_link(places: tuple[Path, Path, Path]) -> None:
    part, target, outside = places
    (target / "gpu1").symlink_to(outside)
    (part / "evil").write_text("as the agent")
    move_into(part, target / "gpu1")
    assert sorted(path.name for path in outside.iterdir()) == ["shadow"]
    assert (target / "gpu1" / "evil").is_file()


def test_nothing_that_is_collected_runs_as_who_collected_it(tmp_path: Path) -> None:
    part = tmp_path / "part"
    (part / "inside").mkdir(parents=True)
    for name in ("shell", "inside/shell"):
        (part / name).write_text("#!/bin/sh\n")
        (part / name).chmod(0o6755)
    move_into(part, tmp_path / "target")
    modes = [oct((tmp_path / "target" / name).stat().st_mode & 0o7777) for name in ("shell", "inside/shell")]
    assert modes == ["0o755", "0o755"]


@pytest.mark.skipif(shutil.which("rsync") is None, reason="there is no rsync here")
def test_rsync_is_asked_for_no_set_id_and_gives_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "shell").write_text("#!/bin/sh\n")
    (tmp_path / "from" / "shell").chmod(0o6755)
    monkeypatch.setattr("ugro_py.stage.ssh_argv", lambda node: ["true", "--", node.address])
    arguments = [f"{tmp_path}/from/", f"{tmp_path}/to/"]
    asyncio.run(rsync(Node("a", "127.0.0.1"), arguments, "collect"))
    assert oct((tmp_path / "to" / "shell").stat().st_mode & 0o7777) == "0o755"
