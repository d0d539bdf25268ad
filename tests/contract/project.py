# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What the contract tests look at: the project's own files, and the commands its texts mention."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import yaml

ROOT = Path(__file__).resolve().parents[2]
# Where the project's files are; everything else at the top (.venv, dist, caches) is made here, not written.
FOLDERS = (
    "benchmarks", "bin", "changelogs", "docs", "inventory", "meta", "molecule", "playbooks", "plugins", "requirements",
    "roles", "tests", "train", "ugro_py",
)  # fmt: skip
# What a person can type after `ugro`, up to the end of the code it stands in.
_UGRO = re.compile(r"(?<![\w./@-])(?:\./bin/)?ugro((?: [^`#|>\n]+)?)")
_PLACEHOLDER = re.compile(r"[{<%]|…|\bVERB\b")


def files(suffix: str, *folders: str) -> list[Path]:
    """Return the project's files that end in `suffix`, of `folders` or of all."""
    found = (path for folder in folders or FOLDERS for path in (ROOT / folder).rglob(f"*{suffix}"))
    hidden = (".", "__pycache__", "out")
    kept = [path for path in found if not any(part.startswith(hidden) for part in path.relative_to(ROOT).parts)]
    return sorted(path for path in kept if path.is_file())


def name_of(path: Path) -> str:
    """Return a path as a test's name: relative to the project."""
    return str(path.relative_to(ROOT))


class _Loader(yaml.SafeLoader):
    """Reads Ansible's YAML; what has a tag of Ansible's is taken as its text."""


_Loader.add_multi_constructor("!", lambda loader, suffix, node: str(node.value))


def load_yaml(path: Path) -> Any:
    """Return what a YAML file of ours holds."""
    return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)


def pages() -> list[Path]:
    """Return everything a newcomer may read, in Markdown."""
    return [*sorted(ROOT.glob("*.md")), *files(".md")]


def code_in(text: str) -> Iterator[str]:
    """Yield the code of a Markdown page: each line of a fenced block, each `inline` piece."""
    blocks = re.split(r"^ *```.*\n", text, flags=re.M)
    for prose in blocks[::2]:
        yield from (" ".join(piece.split()) for piece in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose))
    for block in blocks[1::2]:
        yield from block.replace("\\\n", " ").splitlines()


def ugro_commands(code: str) -> list[list[str]]:
    """Return the arguments of every `ugro …` in a line of code; those with placeholders of any value are left out."""
    found = []
    command = re.sub(r"^\$ ", "", code.strip())
    starts = re.match(r"(?:\w+=\S+ )*(?:\./bin/)?ugro(?: |$)", command)
    if starts:
        words = _UGRO.search(command)
        assert words is not None, code
        if not _PLACEHOLDER.search(words[1]):
            found.append(shlex.split(words[1]))
    return found


def parse(command: click.Command, words: list[str], name: str = "ugro", above: click.Context | None = None) -> None:
    """Parse a command line against the Click tree, without running anything.

    Raises:
        click.ClickException: there is no such verb, option or value.
    """
    if not isinstance(command, click.Group):
        command.make_context(name, list(words), parent=above)
        return
    context = click.Context(command, parent=above, info_name=name, **command.context_settings)
    arranged = getattr(command, "arranged", list)(words)  # a group that takes other words for its commands' names
    _, rest, _ = command.make_parser(context).parse_args(list(arranged))
    if rest:
        inner = command.get_command(context, rest[0])
        if inner is None:
            raise click.UsageError(f"no such command: {rest[0]}")
        parse(inner, rest[1:], rest[0], context)
