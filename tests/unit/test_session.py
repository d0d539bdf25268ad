# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The node's session where two controllers ask it for the same at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.ugro.cluster.plugins.module_utils.session import Session


def _first_time(session: Session, digest: str) -> Path:
    partial = Path(session.do_has_code(digest)["path"])
    (partial / "train.py").write_text("")
    return partial


@pytest.mark.parametrize("partial_is_left", [True, False])
def test_two_first_launches_of_one_code_both_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partial_is_left: bool
) -> None:
    """The other one's rename comes between the look and the rename of this one."""
    session = Session(str(tmp_path), "n1")
    _first_time(session, "abc")
    real = os.rename

    def after_the_other(source: str, target: str) -> None:
        real(source, target)
        if partial_is_left:
            Path(source).mkdir()
        real(source, target)

    monkeypatch.setattr(os, "rename", after_the_other)
    assert session.do_take_code("abc")["path"] == str(tmp_path / "n1" / "code" / "abc")
    assert (tmp_path / "n1" / "code" / "abc" / "train.py").exists()


def test_code_that_cannot_be_taken_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Session(str(tmp_path), "n1").do_take_code("abc")


def test_old_code_that_another_launch_removes_too_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(str(tmp_path), "n1")
    for number in range(12):
        _first_time(session, str(number))

    def gone(path: str) -> None:
        raise FileNotFoundError(path)

    monkeypatch.setattr("shutil.rmtree", gone)
    assert session.do_take_code("11")["path"].endswith("/11")
