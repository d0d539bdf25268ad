# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What hosts see of this machine, read-only: the checkout and the Python that runs it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def shared_paths() -> list[Path]:
    """Return what every host sees at the same path, read-only: the checkout, its venv, its Python.

    A checkout that other users may not enter (a private temporary folder) is shared entry by entry,
    so that the folder itself is one the host makes.
    """
    paths = [CHECKOUT] if CHECKOUT.stat().st_mode & 0o005 == 0o005 else []
    if not paths:
        paths = [entry for entry in sorted(CHECKOUT.iterdir()) if entry.is_dir() and entry.name != ".git"]
    for prefix in (Path(sys.prefix), Path(sys.base_prefix).resolve()):
        covered = any(prefix.is_relative_to(path) for path in [*paths, Path("/usr")])
        if not covered:
            paths.append(prefix)
    return paths


def ways(paths: Sequence[Path]) -> list[Path]:
    """Return the folders on the way to `paths` that hosts inherit from this machine."""
    own = (Path("/root"), Path("/home"), Path("/tmp"), Path("/run"))
    ways = {parent for path in paths for parent in path.parents if parent != Path("/")}
    return sorted(way for way in ways if not any(way.is_relative_to(folder) for folder in own))
