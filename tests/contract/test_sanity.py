# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""`make sanity` reads the modules of this checkout: a fault in one of them makes it fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A checkout with the same collection, to plant faults in."""
    folder = tmp_path / "checkout"
    for name in ("meta", "plugins", "roles", "playbooks", "requirements", "tests/sanity"):
        shutil.copytree(CHECKOUT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("galaxy.yml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, folder / name)
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    return folder


def _sanity(source: Path, test: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "UGRO_SANITY_SOURCE": str(source),
        "UGRO_SANITY_DIR": str(source.parent / "sanity"),
        "HOME": str(source.parent),
    }
    command = [str(source / "tests" / "sanity" / "run"), "--test", test]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_a_module_that_does_not_compile_fails(source: Path) -> None:
    well = _sanity(source, "compile")
    assert well.returncode == 0, well.stdout + well.stderr
    module = source / "plugins" / "modules" / "gpu_info.py"
    module.write_text(module.read_text() + "def broken(:\n")
    ill = _sanity(source, "compile")
    assert ill.returncode != 0
    assert "plugins/modules/gpu_info.py" in ill.stdout + ill.stderr


def test_files_behind_links_are_real_in_the_copy(source: Path) -> None:
    """A symlink out of the collection (the pinned versions of the bootstrap role) would be a hole in it."""
    assert (source / "roles" / "bootstrap" / "files" / "constraints.txt").is_symlink()
    assert _sanity(source, "symlinks").returncode == 0
    copied = source.parent / "sanity" / "ansible_collections" / "ugro" / "cluster" / "roles" / "bootstrap" / "files"
    assert (copied / "constraints.txt").is_file()
    assert not (copied / "constraints.txt").is_symlink()
