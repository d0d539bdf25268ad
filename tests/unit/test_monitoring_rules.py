# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The alert rules that the role `monitoring` ships: each fires in time; what they name and link to exists."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from tests.contract.project import ROOT, load_yaml, parse, ugro_commands
from tests.unit.api_server import FakeAgent
from ugro_py.api.prom import exposition
from ugro_py.cli import cli

RULES = ROOT / "roles" / "monitoring" / "files" / "rules" / "ugro.yml"
CASES = ROOT / "tests" / "data" / "monitoring" / "rules_test.yml"
# Told by Prometheus itself, and by Debian's node exporter.
OF_OTHERS = {
    "up", "ALERTS", "node_filesystem_avail_bytes", "node_filesystem_size_bytes",
    "alertmanager_notifications_failed_total",
}  # fmt: skip
RUNBOOKS = ROOT / "docs" / "runbooks.md"
THRESHOLD = r"\s*(?:==|<|>=?) [-+]?(?:Inf|[\d.e]+)(?: \* \d+)?"
BELOW = "just below every threshold"

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (prometheus)")


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def promtool(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = ["promtool", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the names of all metrics that an agent tells; a family without a sample has its TYPE too."""
    monkeypatch.setenv("UGRO_DATA", str(tmp_path))
    agent = FakeAgent(tmp_path)
    text = exposition(agent).decode()
    agent.store.close()
    names = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, flags=re.M):
        counts = kind == "summary" and f"\n{name}_count" in text  # else it is of quantiles alone
        names |= {f"{name}_count", f"{name}_sum"} if counts else {name}
    return names


@needs_promtool
def test_promtool_takes_them(tmp_path: Path) -> None:
    done = promtool("check", "rules", RULES, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize(("old", "new", "well"), [("", "", True), ("> 5\n", "> 500\n", False), (">= 6", "> 5", False)])
def test_each_fires_when_it_should_and_not_before(tmp_path: Path, old: str, new: str, well: bool) -> None:
    """And the cases are sharp: with another threshold they fail."""
    text, cases = RULES.read_text(), tmp_path / CASES.relative_to(ROOT)
    assert old in text
    changed = tmp_path / RULES.relative_to(ROOT)  # which the cases name as seen from where they are
    for path in (changed, cases):
        path.parent.mkdir(parents=True)
    changed.write_text(text.replace(old, new))
    shutil.copy(CASES, cases)
    done = promtool("test", "rules", cases if old else CASES, folder=tmp_path)
    assert (done.returncode == 0) is well, done.stdout + done.stderr


def test_each_has_a_case_in_which_it_fires() -> None:
    cases = yaml.safe_load(CASES.read_text())["tests"]
    fires = {
        case["alertname"] for group in cases for case in group["alert_rule_test"] if case.get("exp_alerts")
    }  # fmt: skip
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))
    assert set(names) == fires


@needs_promtool
def test_none_fires_just_below_its_threshold(tmp_path: Path) -> None:
    """And that is no wonder of missing series: without their thresholds all fire there, but the one that misses one."""
    (below,) = [case for case in yaml.safe_load(CASES.read_text())["tests"] if case["name"] == BELOW]
    silent = [case["alertname"] for case in below["alert_rule_test"] if not case.get("exp_alerts")]
    names = [rule["alert"] for rule in rules()]
    assert sorted(silent) == sorted(names), "each is asked for once"
    document = yaml.safe_load(RULES.read_text())
    for rule in (rule for group in document["groups"] for rule in group["rules"]):
        rule["expr"] = re.sub(THRESHOLD, "", rule["expr"]).replace(" != ", " == ")
        rule.pop("for", None)
    (tmp_path / "ugro.yml").write_text(yaml.safe_dump(document))
    cases = {"rule_files": ["ugro.yml"], "evaluation_interval": "1m", "tests": [below]}
    (tmp_path / CASES.name).write_text(yaml.safe_dump(cases))
    done = promtool("test", "rules", CASES.name, folder=tmp_path)
    fired = set(re.findall(r"alertname: (\w+), time:", done.stdout + done.stderr))
    assert fired == set(names) - {"UgroAgentMissing"}, done.stdout + done.stderr


def test_each_links_to_what_to_do() -> None:
    """The section of docs/runbooks.md that has its name, as GitHub makes anchors; and no section is left over."""
    sections = re.findall(r"^## (\w+)$", RUNBOOKS.read_text(), flags=re.M)
    assert [rule["alert"] for rule in rules()] == sections
    repository = load_yaml(ROOT / "galaxy.yml")["repository"]
    for rule in rules():
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert page == f"{repository}/blob/main/{RUNBOOKS.relative_to(ROOT)}"
        assert anchor == rule["alert"].lower()


def test_each_names_metrics_that_the_agent_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = told(tmp_path, monkeypatch) | OF_OTHERS
    for rule in rules():
        bare = re.sub(r'"[^"]*"', "", rule["expr"])
        named = {name for name in re.findall(r"\b[a-z]+_[a-z0-9_]+\b(?!\s*\()", bare) if name not in ("ugro_job",)}
        assert named <= known, f"{rule['alert']}: {named - known}"


def test_no_expression_keeps_a_severity_of_its_own() -> None:
    """Else two series that differ in it alone become the same alert, and Prometheus gives up the whole rule."""
    for rule in rules():
        for told_by in ("ugro_events_total", "ugro_node_findings"):
            summed = rf"sum by \([a-z, ]*\) \((increase\()?{told_by}"
            assert len(re.findall(told_by, rule["expr"])) == len(re.findall(summed, rule["expr"])), rule["alert"]


def test_each_says_what_is_wrong_and_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        said = rule["annotations"]
        assert said["summary"] and said["description"], rule["alert"]
        for code in re.findall(r"`([^`]+)`", re.sub(r"\{\{[^}]*\}\}", "x1", said["description"])):
            for words in ugro_commands(code):
                try:
                    parse(cli, words)
                except click.MissingParameter:
                    continue
