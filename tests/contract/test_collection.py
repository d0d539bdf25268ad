# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Each module, role and playbook of the collection is documented, agrees with itself, and is used and tested."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.contract.project import ROOT, files, load_yaml, name_of

MODULES = files(".py", "plugins/modules")
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def texts(*suffixes: str, folders: tuple[str, ...]) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for suffix in suffixes for path in files(suffix, *folders))


# --- modules --------------------------------------------------------------------------------------------------


def documentation(path: Path) -> dict[str, Any]:
    """Return DOCUMENTATION, EXAMPLES and RETURN of a module, read as YAML."""
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name in ("DOCUMENTATION", "EXAMPLES", "RETURN"):
                found[name] = yaml.safe_load(ast.literal_eval(node.value))
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_documents_itself(path: Path) -> None:
    found = documentation(path)
    assert set(found) == {"DOCUMENTATION", "EXAMPLES", "RETURN"}
    assert found["DOCUMENTATION"]["module"] == path.stem
    assert found["DOCUMENTATION"]["description"]
    tasks = [key for task in found["EXAMPLES"] for key in task]
    assert f"ugro.cluster.{path.stem}" in tasks, "an example uses it by its full name"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_each_return_value_has_a_sample(path: Path) -> None:
    def check(values: dict[str, Any], above: str) -> None:
        for key, value in values.items():
            assert value["description"] and value["type"], f"{above}{key}"
            # A mapping may show its parts instead of one sample of the whole.
            if "contains" in value:
                check(value["contains"], f"{above}{key}.")
            else:
                assert "sample" in value, f"{above}{key} has no sample"

    check(documentation(path)["RETURN"], "")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_is_in_the_reference_used_and_tested(path: Path) -> None:
    assert f"\n## ugro.cluster.{path.stem}\n" in page("modules.md")
    used = texts(".yml", ".py", folders=("roles", "playbooks", "molecule", "tests/unit", "tests/integration"))
    assert re.search(rf"""\b(ugro\.cluster\.{path.stem}["']?:|plugins\.modules(\.| import ){path.stem}\b)""", used)


@pytest.mark.parametrize("path", files(".py", "plugins/action"), ids=name_of)
def test_action_plugin_has_its_module(path: Path) -> None:
    assert (ROOT / "plugins" / "modules" / path.name).is_file()


# --- roles ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES, ids=name_of)
def test_role_defaults_and_specs_agree(role: Path) -> None:
    defaults = load_yaml(role / "defaults" / "main.yml") or {}
    specs = load_yaml(role / "meta" / "argument_specs.yml")["argument_specs"]
    options: dict[str, Any] = {}
    for spec in specs.values():
        assert spec["short_description"]
        options.update(spec.get("options") or {})
    for name, option in options.items():
        assert option["type"] and option["description"], name
        # What has no default is required, or is absent on purpose: then nothing reads it unasked.
        if "default" in option:
            assert name in defaults, f"{name} has a default in argument_specs.yml alone"
            assert option["default"] == defaults[name], name
        else:
            assert name not in defaults, f"{name} has a default in defaults/main.yml alone"
    assert set(defaults) <= set(options), "in defaults/main.yml alone"


@pytest.mark.parametrize("role", ROLES, ids=name_of)
def test_role_variables_have_its_prefix(role: Path) -> None:
    names = set(load_yaml(role / "defaults" / "main.yml") or {})
    assert all(name.startswith(f"{role.name}_") for name in names)
    if (role / "vars" / "main.yml").exists():
        assert all(name.startswith(f"_{role.name}_") for name in load_yaml(role / "vars" / "main.yml"))


@pytest.mark.parametrize("role", ROLES, ids=name_of)
def test_role_has_what_people_read(role: Path) -> None:
    readme = (role / "README.md").read_text(encoding="utf-8")
    assert readme.startswith(f"# ugro.cluster.{role.name}\n")
    about = load_yaml(role / "meta" / "main.yml")["galaxy_info"]
    assert about["license"] == "Apache-2.0" and about["description"]
    assert f"\n## Role ugro.cluster.{role.name}\n" in page("playbooks.md")


@pytest.mark.parametrize("role", ROLES, ids=name_of)
def test_role_has_a_molecule_scenario(role: Path) -> None:
    scenario = ROOT / "molecule" / role.name
    assert (scenario / "molecule.yml").is_file()
    converge = texts(".yml", folders=(f"molecule/{role.name}",))
    assert re.search(rf"\bugro\.cluster\.{role.name}\b", converge), f"nothing there runs ugro.cluster.{role.name}"


@pytest.mark.parametrize("path", files(".yml", "roles", "playbooks", "molecule"), ids=name_of)
def test_modules_go_by_their_full_names(path: Path) -> None:
    keywords = {"import_tasks", "include_tasks", "import_role", "include_role", "command", "shell", "file", "copy"}

    def check(value: Any) -> None:
        if isinstance(value, dict):
            if "name" in value and isinstance(value["name"], str):
                assert not keywords & set(value), f"{value['name']}: write ansible.builtin."
            for inner in value.values():
                check(inner)
        elif isinstance(value, list):
            for inner in value:
                check(inner)

    if path.parent.name in ("tasks", "playbooks") or path.parent.parent.name == "molecule":
        check(load_yaml(path))


# --- playbooks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PLAYBOOKS, ids=name_of)
def test_playbook_is_short_and_documented(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 45, "a playbook fits one screen; logic belongs in a role"
    assert text.startswith("---\n# "), "what it is for stands at its head"
    assert f"\n## ugro.cluster.{path.stem}\n" in page("playbooks.md")
    for play in load_yaml(path):
        assert play["name"]
        for role in play.get("roles") or ():
            name = role if isinstance(role, str) else role["role"]
            assert name.startswith("ugro.cluster."), f"{name}: by its full name, so that it works from any folder"
            assert (ROOT / "roles" / name.rpartition(".")[2]).is_dir()


@pytest.mark.parametrize("path", PLAYBOOKS, ids=name_of)
def test_playbook_is_tested(path: Path) -> None:
    tests = texts(".py", ".yml", folders=("tests", "molecule"))
    named = rf"\bugro\.cluster\.{path.stem}\b|playbooks/{path.stem}\.yml|[\"']{path.stem}(\.yml)?[\"']"
    assert re.search(named, tests), f"no test runs {path.name}"


def test_required_versions_agree() -> None:
    wanted = load_yaml(ROOT / "meta" / "runtime.yml")["requires_ansible"]
    smallest = re.fullmatch(r">=(\d+\.\d+)\.0", wanted)
    assert smallest is not None
    assert f'"ansible-core>={smallest[1]}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for role in ROLES:
        assert load_yaml(role / "meta" / "main.yml")["galaxy_info"]["min_ansible_version"] == smallest[1], role.name
