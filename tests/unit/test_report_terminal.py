# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Lists of experiments on terminals of any width: a column is there with its numbers whole, or it is not there."""

from __future__ import annotations

import os

import pytest
from click.testing import CliRunner

from tests.integration.support import UGRO
from tests.terminal import Terminal
from tests.unit.experiment_store import Experiments, own_store  # noqa: F401 - a fixture
from ugro_py.cli import cli

LONG = "job_20261128_032535"


@pytest.fixture
def own(own_store: Experiments) -> Experiments:  # noqa: F811
    own_store.run(LONG, [4.58333, 1.23456789], request={"model": "a-model-with-a-long-name"})
    own_store.run("short", [4.0, -0.0534567])
    own_store.store.set_tags(LONG, ["paper", "warm-up", "good"])
    own_store.store.set_note(LONG, "a note of some words that does not fit beside all of the figures of the job")
    return own_store


def seen(columns: int, *words: str) -> list[str]:
    with Terminal([UGRO, *words], os.environ, columns, 200) as terminal:
        assert terminal.end(timeout_s=120) == 0
        return [line.rstrip() for line in terminal.text.splitlines()]


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_list_has_the_columns_that_fit(own: Experiments, columns: int) -> None:
    lines = seen(columns, "results", "ls")
    (head,) = [line for line in lines if "JOB" in line.split()]
    text = "\n".join(lines)
    for word in (LONG, "completed", "1.235", "-0.05346"):
        assert word in text, "names and numbers in one piece"
    left_out = text.partition("too narrow for ")[2]
    assert ("NOTE" in head) is (columns == 200) is ("NOTE" not in left_out)
    assert ("BEST" in head) is (columns >= 80) is ("BEST" not in left_out)
    rows = [line for line in lines if LONG in line or "short" in line]
    assert len(rows) == 2


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_comparison_breaks_no_number(own: Experiments, columns: int) -> None:
    names = ["short", LONG, "third"]
    own.run("third", [2.0, 1.0], request={"args": ["--path", "/a/path/" + "that-is-long/" * 20]})
    lines = seen(columns, "compare", *names, "--loss", "2")
    text = "\n".join(lines)
    for word in ("-0.05346 *", "1.235", "final loss", "completed"):
        assert word in text, "numbers in one piece, with the mark of the best"
    heads = [line for line in lines if set(line.split()) & set(names) and set(line.split()) <= set(names)]
    assert [name for line in heads for name in line.split()] == names, "each job once"
    assert len(heads) == {40: 3, 80: 1, 200: 1}[columns]
    finals = [line.split() for line in lines if line.startswith("final loss")]
    assert [value for words in finals for value in words[2:] if value != "*"] == ["-0.05346", "1.235", "1"]


def test_options_of_the_list_are_the_list_s_without_its_name(own_store: Experiments) -> None:  # noqa: F811
    def ugro(*words: str) -> str:
        return CliRunner().invoke(cli, list(words), catch_exceptions=False).output

    own_store.run("a", [2.0])
    own_store.run("b", [1.0])
    for words in (["--sort", "loss"], ["--sort=loss", "--json"], ["-n", "1", "--sort", "loss"]):
        assert ugro("results", *words) == ugro("results", "ls", *words)
    assert ugro("results", "--json", "a") == ugro("results", "show", "a", "--json")
