# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The Grafana dashboards that the role `monitoring` ships: Grafana's own models know all of them, people can read
them, and their figures exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.contract.project import ROOT
from tests.unit.grafana_models import lost, mistyped
from tests.unit.test_monitoring_rules import OF_OTHERS, told

FILES = sorted((ROOT / "roles" / "monitoring" / "files" / "grafana").glob("*.json"))
SCHEMA = json.loads((ROOT / "tests" / "data" / "monitoring" / "dashboard.schema.json").read_text())
OF_THE_EXPORTER = {
    "node_network_receive_bytes_total", "node_network_transmit_bytes_total", "node_cpu_seconds_total",
}  # fmt: skip


def load(path: Path) -> dict[str, Any]:
    board: dict[str, Any] = json.loads(path.read_text())
    return board


def targets(board: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield each expression with its panel, as Grafana would send it."""
    for panel in board["panels"]:
        for target in panel["targets"]:
            expr = target["expr"].replace("$__rate_interval", "1m")
            yield panel, re.sub(r"\$(\w+)", "x", expr)


def test_there_are_three() -> None:
    assert [path.stem for path in FILES] == ["ugro-agent", "ugro-cluster", "ugro-jobs"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_is_a_dashboard(path: Path) -> None:
    board = load(path)
    jsonschema.validate(board, SCHEMA, cls=jsonschema.Draft202012Validator)
    assert board["uid"] == path.stem, "found again by its address, whatever it is called"
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    for panel in board["panels"]:
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references)), panel["title"]
    names = {variable["name"] for variable in board["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", path.read_text()))
    assert {name for name in used if not name.startswith("__")} == names, "each is used, and what is used is there"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_grafana_knows_all_of_it(path: Path) -> None:
    """Read by the models that Grafana Labs make from Grafana's source, and written again: what those do not know would
    be missing then, and what is of another type is named. A panel's options are those of its kind."""
    board = load(path)
    assert lost(board) == [] and mistyped(board) == []


def test_what_grafana_does_not_know_is_found() -> None:
    for change, found in (
        (lambda board: board.update(refreshEvery="5s"), ["$.refreshEvery"]),
        (lambda board: board["panels"][0].update(tittle="x"), ["$.panels[0].tittle"]),
        (lambda board: board["panels"][0]["options"].update(colourMode="x"), ["$.panels[0].options.colourMode"]),
        (lambda board: board["panels"][0]["targets"][0].update(legend="x"), ["$.panels[0].targets[0].legend"]),
    ):  # fmt: skip
        board = load(FILES[0])
        change(board)
        assert lost(board) == found
    board = load(FILES[0])
    board["panels"][0]["gridPos"]["w"] = "4"
    board["panels"][1]["fieldConfig"]["defaults"]["unit"] = 5
    assert mistyped(board) == [
        "$.panels[0].grid_pos.w",
        "$.panels[1].field_config.defaults.unit",
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_people_can_read_it(path: Path) -> None:
    """Source, node or job is chosen on top; each curve has a name, each figure a unit, a table what it is about."""
    board = load(path)
    variables = board["templating"]["list"]
    assert variables[0]["type"] == "datasource" and variables[0]["query"] == "prometheus"
    chosen = {"ugro-cluster": "node", "ugro-jobs": "job"}.get(path.stem)
    assert chosen is None or any(variable["name"] == chosen and variable["includeAll"] for variable in variables)
    titles = [panel["title"] for panel in board["panels"]]
    assert len(titles) == len(set(titles))
    for panel in board["panels"]:
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        if panel["type"] == "timeseries":
            assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]
            assert panel["options"]["legend"]["showLegend"]
        if panel["type"] == "table":
            (organised,) = panel["transformations"]
            hidden = organised["options"]["excludeByName"]
            assert hidden["Time"] and hidden["__name__"] and hidden["instance"] and hidden["job"], panel["title"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_panels_do_not_overlap(path: Path) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in load(path)["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert (x, y) not in taken, f"{panel['title']} lies over {taken.get((x, y))}"
                taken[x, y] = panel["title"]


def test_a_board_that_is_none_is_refused() -> None:
    good = load(FILES[0])
    for key in ("uid", "title", "panels", "schemaVersion", "templating"):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({name: value for name, value in good.items() if name != key}, SCHEMA)
    bad = json.loads(json.dumps(good))
    bad["panels"][0]["gridPos"]["w"] = 25
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(bad, SCHEMA)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (prometheus)")
def test_promtool_reads_every_expression(tmp_path: Path) -> None:
    """As recording rules: promtool of Debian 12 has no other way to parse an expression."""
    found = [
        (f"{path.stem} {panel['title']}", expr)
        for path in FILES
        for panel, expr in targets(load(path))
        if panel["datasource"]["type"] == "prometheus"
    ]
    assert len(found) > 30

    def check(expressions: list[str]) -> subprocess.CompletedProcess[str]:
        rules = [{"record": f"x:{number}", "expr": expr} for number, expr in enumerate(expressions)]
        file = tmp_path / "rules.yml"
        file.write_text(yaml.safe_dump({"groups": [{"name": "boards", "rules": rules}]}))
        command = ["promtool", "check", "rules", str(file)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    done = check([expr for _, expr in found])
    assert done.returncode == 0, done.stdout + done.stderr
    assert check(["sum(x"]).returncode != 0


def test_every_metric_is_told_by_somebody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = told(tmp_path, monkeypatch) | OF_OTHERS | OF_THE_EXPORTER
    for path in FILES:
        board = load(path)
        expressions = [expr for panel, expr in targets(board) if panel["datasource"]["type"] == "prometheus"]
        expressions += [
            re.sub(r"label_values\((\w+), \w+\)", r"\1", variable["query"]["query"])
            for variable in board["templating"]["list"]
            if variable["type"] == "query"
        ]
        for expr in expressions:
            bare = re.sub(r'"[^"]*"|\bby \([^)]*\)', "", expr)
            named = {name for name in re.findall(r"\b[a-z]+_[a-z0-9_]+\b", bare) if name not in ("ugro_job",)}
            assert named <= known, f"{path.stem}: {named - known}"
