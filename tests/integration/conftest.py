# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the integration tests: `ugro` on the lab, and on this machine alone."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.support import MASTER_PORT, Ugro
from tests.lab import Lab
from ugro_py import paths


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home for `ugro`, one for all tests: SSH connections stay up between them, as they do for a person."""
    path = tmp_path_factory.mktemp("h")
    yield path
    _hang_up(path)


@pytest.fixture
def fresh_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home without a connection to any node."""
    path = tmp_path_factory.mktemp("f")
    yield path
    _hang_up(path)


def _hang_up(home: Path) -> None:
    for control in (home / ".ugro" / "cm").glob("*"):
        subprocess.run(["ssh", "-O", "exit", "-o", f"ControlPath={control}", "-"], capture_output=True, check=False)


@pytest.fixture
def make_ugro(home: Path, tmp_path: Path) -> Iterator[Callable[..., Ugro]]:
    """A function like `Ugro` without home and data: `make_ugro(inventory, lab)`."""
    made: list[Ugro] = []

    def make(inventory: Path | None = None, lab: Lab | None = None) -> Ugro:
        made.append(Ugro(home, tmp_path / "data", inventory, lab))
        return made[-1]

    yield make
    for ugro in made:
        ugro.close()


@pytest.fixture
def ugro(make_ugro: Callable[..., Ugro], lab3: Lab) -> Ugro:
    """`ugro` with three real hosts, one CPU slot each."""
    return make_ugro(lab3.inventory_file(), lab3)


@pytest.fixture(scope="session")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded inventory, this machine alone, with ports that no other run of tests uses."""
    inventory = paths.embedded_inventory().read_text()
    assert inventory.count("  vars:\n") == 1
    path = tmp_path_factory.mktemp("here") / "hosts.yml"
    path.write_text(inventory.replace("  vars:\n", f"  vars:\n    ugro_master_port: {MASTER_PORT}\n"))
    return path


@pytest.fixture
def ugro_here(make_ugro: Callable[..., Ugro], here: Path) -> Ugro:
    """`ugro` with this machine alone."""
    return make_ugro(here)
