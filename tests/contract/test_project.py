# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The contract tests' own eyes: they see commands where there are some, and wrong ones as wrong."""

from __future__ import annotations

import click
import pytest

from tests.contract.project import ROOT, code_in, files, name_of, pages, parse, ugro_commands
from ugro_py.cli import cli


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("./bin/ugro launch     # sets itself up", [["launch"]]),
        ("$ ugro nodes add gpu1 --address 10.0.0.1", [["nodes", "add", "gpu1", "--address", "10.0.0.1"]]),
        ("UGRO_PYTHON=/x ./bin/ugro ps --all", [["ps", "--all"]]),
        ("ugro logs JOB | less", [["logs", "JOB"]]),
        ("ugro launch --script t.py -- --lr '3e-4'", [["launch", "--script", "t.py", "--", "--lr", "3e-4"]]),
        ("ugro", [[]]),
        ("ugro VERB", []),
        ("ugro status {job}", []),
        ("ugro_py/cli.py", []),
        ("ugro.cluster.launch", []),
        ("cd ugro", []),
    ],
)
def test_commands_are_found(code: str, found: list[list[str]]) -> None:
    assert ugro_commands(code) == found


@pytest.mark.parametrize(
    "words",
    [
        ["lanch"],
        ["launch", "--nope"],
        ["launch", "--nodes", "three"],
        ["nodes", "add", "gpu1"],
        ["nodes", "frob"],
        ["-x", "ps"],
        ["ps", "surplus"],
        ["completion", "tcsh"],
    ],
)
def test_wrong_commands_are_refused(words: list[str]) -> None:
    with pytest.raises(click.ClickException):
        parse(cli, words)


def test_code_is_found_in_markdown() -> None:
    text = "Say `make  test` or\n\n```sh\nugro launch \\\n  --nodes 3\n```\nthen ``not`this``."
    assert list(code_in(text)) == ["make test", "ugro launch    --nodes 3"]


def test_the_readme_is_full_of_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert sum(len(ugro_commands(code)) for code in code_in(readme)) > 25


def test_all_files_are_looked_at() -> None:
    seen = {name_of(path) for path in files(".py")}
    some = ["ugro_py/state/store.py", "plugins/modules/gpu_info.py", "train/data.py", "roles/bootstrap/files/probe.py"]
    assert {*some, "tests/lab/host.py", "tests/contract/project.py", "docs/generate.py"} <= seen
    assert not any(".venv" in name or "__pycache__" in name for name in seen)
    assert {"README.md", "CONTRIBUTING.md", "docs/cli.md", "roles/verify/README.md"} <= {name_of(p) for p in pages()}
