# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Each verb is a file, has help, is documented and is tested; `ugro` starts without anything heavy."""

from __future__ import annotations

import re
import subprocess
import sys

import click
import pytest

from tests.contract.project import ROOT, files
from ugro_py.cli import VERBS, cli

COMMANDS = ROOT / "ugro_py" / "commands"
HEAVY = {"ansible", "ansible_runner", "pandas", "sqlalchemy", "tensorboard", "textual", "torch", "transformers"}
# Verbs that read: a script can have what they show.
READERS = ("ps", "status", "logs", "results", "explain", "events", "alerts", "check", "health", "state", "top")


def command_of(verb: str) -> click.Command:
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    return command


def test_each_file_is_a_verb_and_each_verb_a_file() -> None:
    names = {path.stem for path in COMMANDS.glob("*.py")} - {"__init__"}
    assert names == {module for module, _ in VERBS.values()}


@pytest.mark.parametrize("verb", VERBS)
def test_verb_has_help(verb: str) -> None:
    command = command_of(verb)
    assert len(VERBS[verb][1]) >= 10
    assert command.help and command.help.strip().endswith((".", "fish"))
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, f"ugro {verb} {option.opts[0]} has no help"


@pytest.mark.parametrize("verb", READERS)
def test_reader_speaks_json(verb: str) -> None:
    assert any("--json" in option.opts for option in command_of(verb).params)


@pytest.mark.parametrize("verb", VERBS)
def test_verb_is_in_the_reference(verb: str) -> None:
    assert f"\n## ugro {verb}\n" in (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("verb", VERBS)
def test_verb_has_a_test(verb: str) -> None:
    # ["launch", ...] given to the CLI, or the verb's own module imported.
    named = re.compile(rf"""["']{verb}["']|commands(\.|/| import ){VERBS[verb][0]}\b""")
    tests = [path for path in files(".py", "tests") if "contract" not in path.parts]
    assert any(named.search(path.read_text(encoding="utf-8")) for path in tests), f"no test runs `ugro {verb}`"


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], *([verb, "--help"] for verb in VERBS)])
def test_start_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom ugro_py.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as end:\n    assert not end.code\n"
        "print('\\nmodules:', *sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True)
    shown, _, modules = done.stdout.rpartition("\nmodules:")
    assert "ugro" in shown
    assert not HEAVY & set(modules.split())
