# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What is installed is what is declared: pyproject.toml, the pinned versions, and what the bootstrap role installs."""

from __future__ import annotations

import importlib.metadata
import tomllib
from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.contract.project import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def lines(name: str) -> list[str]:
    text = (ROOT / "requirements" / name).read_text()
    return [line for raw in text.splitlines() if (line := raw.partition("#")[0].strip())]


_DECLARED = [*PROJECT["dependencies"], *(text for extra in EXTRAS.values() for text in extra)]
DECLARED = [Requirement(text) for text in _DECLARED]
PINS = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines("constraints.txt"))}


@pytest.mark.parametrize("requirement", DECLARED, ids=lambda requirement: requirement.name)
def test_a_dependency_is_pinned_to_a_version_it_allows(requirement: Requirement) -> None:
    pin = PINS.get(canonicalize_name(requirement.name))
    assert pin is not None, "requirements/constraints.txt has no version of it"
    assert requirement.specifier.contains(Version(pin), prereleases=True)


@pytest.mark.parametrize("name", ["constraints.txt", "train.txt"])
def test_the_bootstrap_role_has_no_list_of_its_own(name: str) -> None:
    """They are links, so that there is one source; a wheel and a collection hold copies."""
    link = ROOT / "roles" / "bootstrap" / "files" / name
    assert link.is_symlink() and link.resolve() == ROOT / "requirements" / name


def test_a_node_gets_what_the_extra_train_names() -> None:
    names = [canonicalize_name(line) for line in lines("train.txt")]
    assert sorted(names) == sorted(canonicalize_name(Requirement(text).name) for text in EXTRAS["train"])


# The extras that what is declared here asks of others: psycopg[binary], markdown-it-py[linkify].
_OF_OTHERS = ("", "binary", "linkify")


def _needs(name: str, seen: set[str]) -> Iterator[str]:
    """Yield an installed package and all that it needs here."""
    if name in seen:
        return
    seen.add(name)
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return
    yield name
    for text in distribution.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in _OF_OTHERS):
            yield from _needs(canonicalize_name(requirement.name), seen)


def test_no_pin_is_left_of_what_nobody_needs() -> None:
    """Also with what the build backend and pip need for themselves, which no package declares."""
    seen: set[str] = set()
    needed = {name for requirement in DECLARED for name in _needs(canonicalize_name(requirement.name), seen)}
    unneeded = PINS.keys() - needed
    assert unneeded <= {"hatchling", "trove-classifiers", "editables", "setuptools"}, unneeded


@pytest.mark.parametrize("name", sorted(PINS))
def test_what_is_installed_here_is_what_is_pinned(name: str) -> None:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{name} is not installed for this Python and platform")
    assert Version(version).public == Version(PINS[name]).public
