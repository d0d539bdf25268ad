# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Columns and JSON keys that docs/series.md, results.md and stragglers.md name are those that programs get."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.contract.project import ROOT
from tests.unit.experiment_store import Experiments, own_store  # noqa: F401 - a fixture
from tests.unit.job_store import JOB, NODES, JobStore
from tests.unit.straggler_world import train
from ugro_py import metrics, results
from ugro_py.cli import cli
from ugro_py.paths import JobPaths
from ugro_py.series.chart import unit_of
from ugro_py.series.samples import GPU_UNITS, JOINED, NODE_UNITS
from ugro_py.state import Controller, Store
from ugro_py.stragglers.times import COLUMNS
from ugro_py.worth import links
from ugro_py.worth.prediction import Link


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
    return re.findall(r"`([a-z0-9_]+)`", cell)


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
        "ugro results tag JOB --json": ["results", "tag", "one", "--json"],
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


@pytest.fixture
def gang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobStore]:
    """A gang with a straggler whose network was measured, in a store of its own, and a job that waits."""
    for name in ("UGRO_AGENT", "UGRO_INVENTORY", "UGRO_DB"):
        monkeypatch.delenv(name, raising=False)
    for name, folder in (("UGRO_DATA", "data"), ("HOME", "home")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    with Store.open() as store:
        jobs = JobStore(store)
        train(jobs, compute=(0.10, 0.10, 0.10), data=(0.001, 0.080, 0.001))
        jobs.end()
        assert store.acquire_lease(Controller.me(), 600.0)  # as an agent has one: what waits, waits for it
        store.create_job("waits", "ob", {"name": "waits", "gpus": 9})
        store.set_account("group", "lab", max_gpus=2)
        links.keep([Link(one, other, 100.0, 0.1, time.time()) for one in NODES for other in NODES if one != other])
        yield jobs


def test_keys_and_times_of_the_other_verbs(gang: JobStore) -> None:
    rows = {cells[0].strip("`"): set(named(cells[1])) for cells in table("results.md", "| verb | keys |")}
    assert rows.pop("ugro worth --json") == {"links", "not_measured"}
    rows["ugro worth JOB --json"] -= {"keep"}  # an advice
    rows["ugro stragglers JOB --json"] |= rows["ugro worth JOB --json"]
    for command, told in rows.items():
        words = [word.replace("JOB", JOB) for word in command.split()[1:]]
        output = CliRunner().invoke(cli, words, catch_exceptions=False).stdout
        said = [json.loads(line) for line in output.splitlines()] if "events" in words else json.loads(output)
        assert said, command
        keys, times = set(), []
        for key, value in every(said):
            keys.add(key)
            if key.endswith("_at") or key in ("at", "since", "until", "expected"):
                times.append(value)
        assert keys == told, command
        assert all(time is None or re.fullmatch(r"[0-9-]{10}T[0-9:]{8}(\.[0-9]+)?Z", time) for time in times), command
        assert times or command == "ugro stragglers JOB --json", command


def every(said: Any) -> Iterator[tuple[str, Any]]:
    """Yield each key with its value, of objects within objects too; what an event's `data` holds differs by kind."""
    for part in said if isinstance(said, list) else ():
        yield from every(part)
    for key, value in said.items() if isinstance(said, dict) else ():
        yield key, value
        if key != "data":
            yield from every(value)
