# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Rules of the code that no linter knows: what may be imported where, what may be written nowhere."""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.project import ROOT, files, name_of

MAX_LINES = 300
LONGER: dict[str, str] = {}  # file -> why it is better whole

PYTHON = files(".py")
PRODUCT = files(".py", "ugro_py", "plugins", "train", "roles")
NODE_CODE = files(".py", "plugins/modules", "plugins/module_utils")
# Of the standard library, what a node's Python 3.9 does not have.
NEWER_THAN_3_9 = {"tomllib"}
# Used where they are there; the file does without them where they are not.
OPTIONAL = {("plugins/module_utils/nvml.py", "pynvml")}

FORBIDDEN_TEXT = {
    r"^\s*ignore_errors:": "an error is handled or it ends the play",
    r"host_key_checking\s*[=:]\s*(false|no|0)": "host keys are checked",
    r"StrictHostKeyChecking[= ](no|off)": "host keys are checked",
    r"UserKnownHostsFile[= ]/dev/null": "host keys are checked",
    r"validate_certs:\s*(false|no)": "certificates are checked",
}
# The files and folders of the central store and of an attempt on its node.
STORE_NAMES = re.compile(
    r"(config\.json|metrics\.jsonl|controller\.log|gang\.json|events\.jsonl|torchrun\.log|\.spec\.json)$"
    r"|^(checkpoints|tensorboard|experiments)(/|$)|^rank_$"
)
# The same words for something else: a label on the screen, the file of a model's folder.
LABELS = {
    ("ugro_py/results/text.py", "tensorboard"),
    ("ugro_py/request/sources.py", "config.json"),
    ("ugro_py/cli.py", "tensorboard"),  # the verb
    ("ugro_py/tensorboard.py", "tensorboard"),  # the package
    ("ugro_py/tensorboard.py", "tensorboard.main"),
    # The table, the key and the topic.
    ("ugro_py/state/models_experiments.py", "experiments"),
    ("ugro_py/state/migrations/versions/0003_experiments.py", "experiments"),
    ("ugro_py/experiments/listing.py", "experiments"),
    ("ugro_py/commands/results.py", "experiments"),
    ("ugro_py/api/routes/experiments.py", "experiments"),
    ("ugro_py/web/pages/experiments.py", "experiments"),  # the name of its live parts
}


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports(path: Path) -> Iterator[str]:
    """Yield the full names of absolute imports, wherever they stand in the file."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module)


@pytest.mark.parametrize("path", PYTHON, ids=name_of)
def test_file_is_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES or name_of(path) in LONGER, f"{lines} lines: one file, one job"


@pytest.mark.parametrize("path", [*PRODUCT, *files(".py", "docs", "benchmarks", "tests/lab")], ids=name_of)
def test_file_says_what_it_is_for(path: Path) -> None:
    # A module's is its DOCUMENTATION.
    if path.parent.name != "modules":
        assert ast.get_docstring(tree_of(path))


def test_exceptions_are_needed() -> None:
    for name in LONGER:
        assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) > MAX_LINES, f"{name} is short now"


@pytest.mark.parametrize("path", NODE_CODE, ids=name_of)
def test_node_code_needs_the_standard_library_alone(path: Path) -> None:
    for name in imports(path):
        top = name.partition(".")[0]
        if name.startswith(("ansible.module_utils.", "ansible_collections.ugro.cluster.plugins.module_utils")):
            continue
        if (name_of(path), top) in OPTIONAL:
            continue
        assert top in sys.stdlib_module_names and top not in NEWER_THAN_3_9, f"{name} may be missing on a node"


@pytest.mark.parametrize("path", NODE_CODE, ids=name_of)
def test_node_code_is_python_3_9(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))


@pytest.mark.parametrize("path", PRODUCT, ids=name_of)
def test_nothing_goes_through_a_shell_and_no_error_vanishes(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.keyword) and node.arg == "shell":
            assert isinstance(node.value, ast.Constant) and node.value.value is False, f"line {node.value.lineno}"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}: bare except"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert not (node.func.attr in ("system", "popen") and ast.unparse(node.func.value) == "os"), node.lineno


@pytest.mark.parametrize("path", files(".py", "ugro_py"), ids=name_of)
def test_ugro_py_raises_its_errors_and_prints_none(path: Path) -> None:
    if name_of(path) == "ugro_py/controller.py":
        return  # runs without `ugro_py.cli.main`: its standard error is the job's controller.log
    for node in ast.walk(tree_of(path)):
        assert not (isinstance(node, ast.Call) and ast.unparse(node.func) == "print"), f"line {node.lineno}"


TEXT = [
    *(path for suffix in (".py", ".yml", ".yaml", ".cfg", ".j2", ".sh", ".toml") for path in files(suffix)),
    *(path for path in files("", "bin")),
    *(ROOT / name for name in ("ansible.cfg", "galaxy.yml", "Makefile", "pyproject.toml")),
]


@pytest.mark.parametrize("path", [path for path in TEXT if "tests" not in path.parts], ids=name_of)
def test_no_forbidden_pattern(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for pattern, why in FORBIDDEN_TEXT.items():
        found = re.search(pattern, text, flags=re.IGNORECASE | re.MULTILINE)
        assert found is None, f"{found[0]!r}: {why}"


@pytest.mark.parametrize("path", [path for path in TEXT if "tests" not in path.parts], ids=name_of)
def test_unknown_host_keys_are_taken_only_to_show_them(path: Path) -> None:
    if name_of(path) != "ugro_py/hostkeys.py":  # fetches a key into a file of its own, shows it, asks, then pins it
        assert "accept-new" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", files(".py", "ugro_py", "plugins"), ids=name_of)
def test_only_the_runner_imports_ansible_runner(path: Path) -> None:
    if name_of(path) != "ugro_py/runner.py":
        assert "ansible_runner" not in {name.partition(".")[0] for name in imports(path)}


@pytest.mark.parametrize("path", files(".py", "ugro_py"), ids=name_of)
def test_only_paths_knows_file_names(path: Path) -> None:
    if name_of(path) == "ugro_py/paths.py":
        return
    for node in ast.walk(tree_of(path)):
        # A text without spaces that is no docstring: a name, not a message.
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
            known = (name_of(path), node.value) in LABELS
            assert known or not STORE_NAMES.search(node.value), (
                f"line {node.lineno}: ask ugro_py.paths for {node.value!r}"
            )


@pytest.mark.parametrize("path", files(".py", "plugins/modules", "plugins/module_utils"), ids=name_of)
def test_node_code_has_its_header(path: Path) -> None:
    head = "\n".join(path.read_text(encoding="utf-8").splitlines()[:4])
    if path.name != "__init__.py":
        assert "Copyright (c) 2026 The UGRO developers" in head and "Apache License 2.0" in head
