# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Units of systemd, with a stand-in for systemd-run that answers as it was seen to."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.ugro.cluster.plugins.module_utils import units

LOADED = "Failed to start transient service unit: Unit u.service was already loaded or has a fragment file."


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for what systemd-run says: it takes one file with each call, and does well when none is left."""
    program = tmp_path / "bin" / "systemd-run"
    program.parent.mkdir()
    (tmp_path / "says").mkdir()
    said = '{ cat "$first"; rm "$first"; exit 1; }'
    program.write_text(f'#!/bin/sh\nfor first in {tmp_path}/says/*; do [ -e "$first" ] && {said}; done\nexit 0\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setattr(units, "manager", lambda: units.SYSTEM)
    return tmp_path / "says"


def test_a_name_that_is_free_in_a_moment_is_waited_for(answers: Path) -> None:
    for number in range(3):
        (answers / str(number)).write_text(LOADED)
    assert units.start("u.service", ["true"], "/dev/null") == units.SYSTEM
    assert list(answers.iterdir()) == []


def test_a_name_that_stays_taken_is_an_error(answers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "_FREE_S", 0.2)
    for number in range(100):
        (answers / f"{number:03d}").write_text(LOADED)
    with pytest.raises(OSError, match="already loaded"):
        units.start("u.service", ["true"], "/dev/null")


def test_whatever_else_it_says_is_an_error_at_once(answers: Path) -> None:
    (answers / "1").write_text("Access denied")
    (answers / "2").write_text("never reached")
    with pytest.raises(OSError, match="systemd-run: Access denied"):
        units.start("u.service", ["true"], "/dev/null")
    assert [path.name for path in answers.iterdir()] == ["2"]
