# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What `ugro --master` leaves on the master. What goes over SSH runs here, in the shell that would run it there."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ugro_py import master

DAY_S = 86400


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home on the master; `ssh` runs its command line there."""
    there, programs = tmp_path / "there", tmp_path / "bin"
    there.mkdir()
    programs.mkdir()
    ssh = programs / "ssh"
    ssh.write_text(f'#!/bin/sh\ncd {there} || exit 255\n[ "$1" = -- ] && exec env HOME={there} sh -c "$3"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return there


@pytest.fixture
def script(tmp_path: Path) -> Path:
    code = tmp_path / "code"
    (code / "lib").mkdir(parents=True)
    (code / "lib" / "part.py").write_text("part\n")
    (code / "train.py").write_text("train\n")
    os.utime(code / "train.py", (1, 1))
    return code / "train.py"


def send(script: Path) -> Path:
    """Send the folder of a script; returns where the script is on the master, from its home."""
    words = master._send_code("ob@master", ["launch", "--script", str(script), "--", "--script", "x"])
    return Path(words[words.index("--script") + 1])


def aged(path: Path, age_s: float) -> Path:
    then = time.time() - age_s
    os.utime(path, (then, then))
    return path


def test_what_was_sent_a_day_ago_is_removed(home: Path, script: Path) -> None:
    first, second = send(script), send(script)
    assert first != second  # none is used twice: it could be removed meanwhile
    assert (home / second).read_text() == "train\n" and (home / second.parent / "lib" / "part.py").is_file()
    assert (home / second).parent.stat().st_mode & 0o777 == 0o700
    aged(home / first.parent, DAY_S + 60)
    aged(home / second.parent, DAY_S - 60)
    third = send(script)
    assert {path.name for path in (home / ".cache/ugro/sent").iterdir()} == {second.parent.name, third.parent.name}


def test_nothing_else_is_removed(home: Path, script: Path, tmp_path: Path) -> None:
    sent = home / ".cache/ugro/sent"
    keep = tmp_path / "keep"
    keep.mkdir()
    (keep / "file").write_text("precious\n")
    old = sent / ("a" * 24)
    old.mkdir(parents=True)
    (old / "link").symlink_to(keep)
    (old / "-rf").write_text("a name like an option\n")
    aged(old, 2 * DAY_S)
    for name in ("mine", "A" * 24, "a" * 25, "a" * 23):
        aged_one = sent / name
        aged_one.mkdir()
        aged(aged_one, 2 * DAY_S)
    (sent / ("b" * 24)).symlink_to(keep)
    aged(keep, 2 * DAY_S)
    new = send(script)
    assert not old.exists() and (keep / "file").read_text() == "precious\n"
    names = {path.name for path in sent.iterdir()}
    assert names == {"mine", "A" * 24, "a" * 25, "a" * 23, "b" * 24, new.parent.name}
    assert (home / new).is_file()


def test_what_cannot_be_removed_keeps_nobody_from_launching(
    home: Path, script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = home / send(script).parent
    aged(old, 2 * DAY_S)
    refuses = tmp_path / "bin" / "rm"
    refuses.write_text("#!/bin/sh\necho 'rm: Operation not permitted' >&2\nexit 1\n")
    refuses.chmod(0o755)
    # A login shell sets its own PATH: the profile of this home is read last.
    (home / ".profile").write_text(f"PATH={tmp_path}/bin:$PATH\n")
    assert (home / send(script)).is_file() and old.is_dir()
