# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Columns and JSON keys that docs/series.md, results.md and stragglers.md name are those that programs get."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.contract.project import ROOT
from tests.unit.experiment_store import Experiments, own_store  # noqa: F401 - a fixture
from ugro_py import metrics, results
from ugro_py.cli import cli
from ugro_py.paths import JobPaths
from ugro_py.series.chart import unit_of
from ugro_py.series.samples import GPU_UNITS, JOINED, NODE_UNITS
from ugro_py.stragglers.times import COLUMNS


@pytest.fixture
def own(own_store: Experiments) -> Experiments:  # noqa: F811
    for job in ("one", "two"):
        own_store.run(job, watts=300.0)
    own_store.event("one", 1_700_000_009.0, "metrics", rank=0, step=9, nonfinite=["training_loss"], phase="warm")
    metrics.rebuild(JobPaths("one"))
    return own_store


def table(page: str, head: str) -> list[list[str]]:
    """Return the cells of the first table of a page below a line of headings, row by row."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    rows = text.partition(head)[2].strip().splitlines()[1:]
    found = []
    for row in rows:
        if not row.startswith("|"):
            break
        found.append([cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]])
    assert found, f"{page} has no table {head!r}"
    return found


def named(cell: str) -> list[str]:
    return re.findall(r"`([a-z_]+)`", cell)


def test_columns_of_load(own: Experiments) -> None:
    rows = table("series.md", "| column | meaning | unit |")
    told = [name for row in rows for name in named(row[0])]
    assert tuple(told[: len(metrics.FIELDS)]) == metrics.FIELDS, "in the order in which they are in a frame"
    frame = results.load("one")
    assert list(frame.columns[: len(metrics.FIELDS)]) == list(metrics.FIELDS)
    assert set(frame.columns) <= set(told), "each column that there is stands in the table"
    assert set(told) - set(frame.columns) == {"epoch", "total_steps"}, "and these are examples"
    for cells in rows:
        for name in named(cells[0]):
            assert not unit_of(name) or name in ("total_steps",) or cells[2].startswith(unit_of(name)), name


def test_columns_of_samples(own: Experiments) -> None:
    text = (ROOT / "docs" / "series.md").read_text(encoding="utf-8").partition("With `samples=True`")[2]
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| `node")]
    told = [name for row in rows for name in named(row[0])]
    units = {name: unit for row in rows for name, unit in zip(named(row[0]), units_in(row[2], row[0]), strict=True)}
    frame = results.load("one", samples=True)
    assert sorted(told) == sorted(["node", *JOINED.values()])
    assert sorted(name for name in frame.columns if name.startswith("node")) == sorted(told)
    for name, joined in JOINED.items():
        assert units[joined].startswith({**NODE_UNITS, **GPU_UNITS}.get(name, "")), joined


def units_in(cell: str, names: str) -> list[str]:
    count = len(named(names))
    parts = [part.strip() for part in cell.split(", ")]
    return parts if len(parts) == count else [cell.strip()] * count


def test_times_of_a_step() -> None:
    told = [name for row in table("stragglers.md", "| key in `metrics.jsonl` | what it is |") for name in named(row[0])]
    assert tuple(told) == (*COLUMNS, "gradient_bytes")


def test_keys_of_json(own: Experiments, tmp_path: Path) -> None:
    rows = {cells[0].strip("`"): named(cells[1]) for cells in table("results.md", "| command | keys |")}
    commands = {
        "ugro results JOB --json": ["results", "one", "--json"],
        "ugro results ls --json": ["results", "ls", "--json"],
        "ugro results note JOB --json": ["results", "note", "one", "--json"],
        "ugro compare A B --json": ["compare", "one", "two", "--all", "--json"],
        "ugro export A -o FILE --json": ["export", "one", "-o", str(tmp_path / "x.csv"), "--json"],
    }
    assert list(rows) == list(commands)
    for command, words in commands.items():
        said = json.loads(CliRunner().invoke(cli, words, catch_exceptions=False).output)
        told = [name for name in rows[command] if not (command.startswith("ugro compare") and name == "jobs")]
        keys = [name for name in keys_of(said) if not (command.startswith("ugro compare") and name == "jobs")]
        assert sorted(told) == sorted(keys), command


def keys_of(said: dict[str, Any]) -> list[str]:
    """Return the keys of an object and of the objects in its lists; what a loss consists of is told in words."""
    found = []
    for key, value in said.items():
        found.append(key)
        if isinstance(value, list) and value and isinstance(value[0], dict):
            found += keys_of(value[0])
    return found
