# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What is written for people is true: commands parse, paths and links exist, generated pages are fresh."""

from __future__ import annotations

import ast
import json
import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest

import ugro_py
from docs import generate
from tests.contract.project import ROOT, code_in, files, load_yaml, name_of, pages, parse, ugro_commands
from ugro_py import errors
from ugro_py.cli import cli
from ugro_py.inventory import load_cluster
from ugro_py.inventory.keys import CLUSTER_KEYS, HOST_KEYS, TRAINING, TRAINING_KEYS

# Generated pages hold other people's text (usage lines, Ansible's examples).
WRITTEN = [path for path in pages() if path.name not in generate.PAGES]
_PATH = re.compile(
    r"(?:\.ci|bin|changelogs|docs|inventory|meta|molecule|playbooks|plugins|requirements|roles|tests|train|ugro_py)/[\w./-]*"
)


def test_generated_pages_are_fresh() -> None:
    stale = [name_of(path) for path in generate.stale()]
    assert not stale, f"{', '.join(stale)} no longer say what the code does: run `make docs`"


@pytest.mark.parametrize("path", WRITTEN, ids=name_of)
def test_ugro_commands_exist(path: Path) -> None:
    for code in code_in(path.read_text(encoding="utf-8")):
        for words in ugro_commands(code):
            try:
                parse(cli, words)
            except click.exceptions.Exit:
                pass  # --help, --version
            except click.ClickException as error:
                if isinstance(error, click.MissingParameter) and isinstance(error.param, click.Argument):
                    continue  # `ugro status` in a sentence names the verb
                pytest.fail(f"`{code}`: {error.format_message()}")


def test_commands_in_messages_exist() -> None:
    """What an error tells a person to type can be typed."""
    for path in files(".py", "ugro_py", "plugins"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else "x1" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value.replace("%s", "x1")
            else:
                continue
            for code in re.findall(r"`([^`\n]+)`", text):
                for words in ugro_commands(code):
                    complete = [word for word in words if word not in ("VERB", "ARGS")]
                    try:
                        parse(cli, complete)
                    except click.exceptions.Exit:
                        pass
                    except (click.MissingParameter, click.exceptions.NoArgsIsHelpError):
                        pass  # `ugro nodes add` alone names the verb, not the whole command
                    except click.ClickException as error:
                        pytest.fail(f"{name_of(path)}: `{code}`: {error.format_message()}")


@pytest.mark.parametrize("path", [*WRITTEN, ROOT / "Makefile"], ids=name_of)
def test_make_targets_exist(path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):.*##", makefile, flags=re.M))
    for code in code_in(path.read_text(encoding="utf-8")):
        wanted = re.fullmatch(r"(?:\$ )?make ([a-z]+)(?: \w+=\S+)?(?: *#.*)?", code.strip())
        assert wanted is None or wanted[1] in targets, code


def test_make_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, flags=re.M)
    assert phony is not None
    assert set(phony[1].split()) == set(re.findall(r"^([a-z]+):.*##", makefile, flags=re.M))


@pytest.mark.parametrize("path", WRITTEN, ids=name_of)
def test_paths_exist(path: Path) -> None:
    for code in code_in(path.read_text(encoding="utf-8")):
        for word in code.split() if "playbook" in code else [code]:
            if _PATH.fullmatch(word) and not word.startswith("benchmarks/out") and "/X." not in word:
                assert (ROOT / word).exists() or (path.parent / word).exists(), f"{word} does not exist"


@pytest.mark.parametrize("path", pages(), ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"^ *```.*?^ *```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", text)):
        target, _, anchor = link.partition("#")
        if target.startswith(("http://", "https://")):
            continue
        there = (path.parent / target) if target else path
        assert there.exists(), link
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there.read_text(encoding="utf-8")), link


def anchors(text: str) -> set[str]:
    """Return the anchors that a Markdown viewer makes of the headings."""
    titles = re.findall(r"^#+ (.*)$", text, flags=re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", WRITTEN, ids=name_of)
def test_playbooks_named_exist(path: Path) -> None:
    names = {playbook.stem for playbook in (ROOT / "playbooks").glob("*.yml")}
    for code in code_in(path.read_text(encoding="utf-8")):
        for name in re.findall(r"ansible-playbook (?:-\S+ )*ugro\.cluster\.(\w+)", code):
            assert name in names, code


@pytest.mark.parametrize("path", WRITTEN, ids=name_of)
def test_json_examples_are_json(path: Path) -> None:
    for block in re.findall(r"^```json\n(.*?)^```", path.read_text(encoding="utf-8"), flags=re.M | re.S):
        json.loads(block)


def test_exit_codes_are_documented_and_distinct() -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.UgroError) and kind.__module__ == errors.__name__
    ]
    assert len({kind.exit_code for kind in kinds}) == len(kinds)
    text = (ROOT / "docs" / "exit-codes.md").read_text(encoding="utf-8")
    for kind in kinds:
        assert f"| {kind.exit_code} | `{kind.__name__}` |" in text


def test_every_error_is_explained() -> None:
    """docs/troubleshooting.md has a section for each exit code but 0."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    for code in range(1, 11):
        assert re.search(rf"^## .*\(exit code {code}\)$", text, flags=re.M), f"exit code {code}"


def test_every_inventory_variable_is_explained() -> None:
    text = (ROOT / "docs" / "inventory.md").read_text(encoding="utf-8")
    for key in (*HOST_KEYS, *CLUSTER_KEYS, TRAINING):
        assert f"`{key}`" in text, key
    for key in TRAINING_KEYS:
        assert f"`{key}`" in text, f"{TRAINING}.{key}"


def test_versions_agree() -> None:
    version = ugro_py.__version__
    assert load_yaml(ROOT / "galaxy.yml")["version"] == version
    newest = re.search(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.M)
    assert newest is not None and newest[1] == version
    assert version in load_yaml(ROOT / "changelogs" / "changelog.yaml")["releases"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["hatch"]["version"]["path"] == "ugro_py/__init__.py", "one place says the version"
    for path in files(".py", "plugins/modules"):
        added = re.search(r"^version_added: (\S+)$", path.read_text(encoding="utf-8"), flags=re.M)
        assert added is not None and as_numbers(added[1]) <= as_numbers(version), name_of(path)


def as_numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def test_decisions_are_dated() -> None:
    decisions = files(".md", "docs/adr")
    assert [int(path.name[:4]) for path in decisions] == list(range(1, len(decisions) + 1)), "numbered without gaps"
    for path in decisions:
        head = path.read_text(encoding="utf-8").splitlines()[:4]
        assert head[0].startswith(f"# {path.name[:4]}: ")
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", head[2]), f"{path.name} has no date on its third line"


def test_first_lines_of_the_readme_are_the_two_commands() -> None:
    first = re.search(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.M | re.S)
    assert first is not None
    assert [shlex.split(line, comments=True) for line in first[1].splitlines()] == [
        ["./bin/ugro", "launch"],
        ["make", "test"],
    ]


# Said by ssh, not by us; only shown.
OF_OTHERS = {"Connection refused", "Connection timed out", "No route to host", "/.venv/bin/python: No module named"}


def test_errors_explained_are_ours() -> None:
    """Each text in the first column of docs/troubleshooting.md is one that the code can print."""
    sources = [*files(".py", "ugro_py", "plugins", "train"), *files(".yml", "roles"), ROOT / "bin" / "setup-venv"]
    # Texts are wrapped in the sources: joined across quotes, line ends and placeholders.
    joined = " ".join(path.read_text(encoding="utf-8") for path in sources)
    joined = re.sub(r'"\s+f?"', "", joined)
    joined = re.sub(r"\s+", " ", joined)
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    for row in re.findall(r"^\| (`.*?) \| ", page, flags=re.M):
        for quoted in re.findall(r"`([^`]+)`", row):
            for piece in quoted.split("…"):
                words = piece.strip(" :;")
                if len(words) > 3 and words not in OF_OTHERS:
                    assert all(part.strip(" :;") in joined for part in re.split(r"[:;] ", words)), f"{words!r} of {row}"


def test_inventories_shown_are_valid(tmp_path: Path) -> None:
    shown = [
        block
        for path in WRITTEN
        for block in re.findall(r"^```yaml\n(ugro_nodes:.*?)^```", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    ]
    assert shown
    for number, block in enumerate(shown):
        file = tmp_path / f"{number}.yml"
        file.write_text(block, encoding="utf-8")
        assert len(load_cluster(file).nodes) == 3
