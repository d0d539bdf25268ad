# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The command line itself: how errors end, what `ugro` says of itself, and completion in a real shell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ugro_py
from ugro_py.cli import VERBS, main
from ugro_py.state import Store

UGRO = Path(sys.executable).with_name("ugro")


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("UGRO_DATA", str(tmp_path / "data"))
    for name in ("UGRO_DB", "UGRO_INVENTORY"):
        monkeypatch.delenv(name, raising=False)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    assert isinstance(end.value.code, int)
    return end.value.code


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert ugro_py.__version__ in capsys.readouterr().out


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-h") == 0
    said = capsys.readouterr().out
    assert all(f"\n  {verb}" in said for verb in VERBS)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["status", "nope"], 8, "ugro: job 'nope': there is none; run `ugro ps --all` to see all jobs\n"),
        (["launch", "--name", "../x"], 2, "ugro: job name '../x': is not a valid name; "),
        (["launch", "--nodes", "4"], 2, "ugro: --nodes 4: the cluster has 3; "),
        (["-i", "/nowhere", "nodes", "ls"], 3, "ugro: /nowhere: no such file; "),
        (
            ["launch", "--nodes", "three"],
            2,
            "ugro: Invalid value for '--nodes': 'three' is not a valid integer; see ",
        ),
        (["lanch"], 2, "ugro: No such command 'lanch'; see `ugro --help`\n"),
    ],
)
def test_errors_end_with_one_line_and_their_code(
    arguments: list[str], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == code
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith(said) and err.count("\n") == 1
    assert not list((tmp_path / "data").glob("jobs/*")), "nothing half-made"


def test_ps_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("ps", "--json") == 0
    assert capsys.readouterr().out.strip() == "[]"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("completion", shell) == 0
    script = capsys.readouterr().out
    assert "_UGRO_COMPLETE" in script
    program = shutil.which(shell)
    if program is not None:
        subprocess.run([program, "-n"], input=script, text=True, check=True)


def complete(line: str) -> set[str]:
    """What bash would offer at the end of `line`, asked as the completion script asks."""
    words = line.split(" ")
    env = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_UGRO_COMPLETE": "bash_complete"}
    done = subprocess.run([UGRO], env={**os.environ, **env}, capture_output=True, text=True, check=True)
    return {found.partition(",")[2] for found in done.stdout.splitlines()}


def test_completion_knows_verbs_options_jobs_and_nodes() -> None:
    with Store.open() as store:
        store.create_job("experiment_v1", user="kim", request={})
    assert complete("ugro st") == {"status", "stop", "state", "stragglers"}
    assert "--dry-run" in complete("ugro launch --d")
    assert complete("ugro status exp") == {"experiment_v1"}
    assert complete("ugro check gpu") == {"gpu-master", "gpu1", "gpu2"}
