# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Files that a hostile job leaves on its nodes must not lead the agent, which may be root, out of the job's folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from ugro_py.collect import move_into


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
