# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Which events are alerts, whom a rule tells, and when: pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ugro_py.alerts.dedupe import FLAP_HOLD, due
from ugro_py.alerts.meaning import TOPICS, changes
from ugro_py.alerts.rules import Rule, rule_for, rules_of, targets
from ugro_py.cluster import Settings
from ugro_py.errors import InventoryError
from ugro_py.state.rows import AlertRow, EventRow

NOW = datetime(2026, 1, 20, 12, 0, tzinfo=UTC)
URL = "json://127.0.0.1:8080/hook"


def event(kind: str, text: str = "", severity: str = "error", **values: Any) -> EventRow:
    given = {"job": None, "node": None, "rank": None, "data": None, **values}
    return EventRow(NOW, kind, severity, text, given["job"], given["node"], given["rank"], given["data"], 1)


def meant(*args: Any, **values: Any) -> list[tuple[str, str, bool]]:
    return [(change.rule, change.key, change.begins) for change in changes(event(*args, **values))]


def test_a_lost_node_is_one_condition_whoever_notices_it() -> None:
    key = "node:gpu1:unreachable"
    began = [("node_unreachable", key, True)]
    assert meant("node_lost", "gpu1: no answer for 5.5 s", node="gpu1", job="a") == began
    assert meant("node_health", "healthy -> unreachable: x", node="gpu1", data={"to": "unreachable"}) == began
    assert meant("node_status", "available -> unreachable: x", node="gpu1") == began
    assert ("", key, False) in meant("node_health", "unreachable -> healthy", node="gpu1", data={"to": "healthy"})
    assert ("", key, False) in meant("node_back", "gpu1 answers again", node="gpu1")
    assert ("", key, False) in meant("node_status", "unreachable -> available", node="gpu1")


def test_what_else_begins_and_ends() -> None:
    assert meant("node_drain", "drained by health: x", node="gpu1") == [("node_drained", "node:gpu1:drained", True)]
    assert meant("node_resume", "resumed by ob", node="gpu1") == [("", "node:gpu1:drained", False)]
    gone = "GPU 0 GPU-7a1b-22 (NVIDIA GeForce RTX 3060) is gone"
    assert meant("gpu_missing", gone, node="gpu1") == [("gpu_lost", "gpu:gpu1:GPU-7a1b-22", True)]
    assert meant("gpu_back", "GPU 0 GPU-7a1b-22", node="gpu1") == [("", "gpu:gpu1:GPU-7a1b-22", False)]
    low = meant("health_finding", "1.2 GB free", "warning", node="gpu1", data={"check": "disk_space_gb"})
    assert low == [("disk_low", "health:gpu1:disk_space_gb", True)]
    hot = meant("health_finding", "88 C", "warning", node="gpu1", data={"check": "gpu_temperature"})
    assert hot == [("health_gpu_temperature", "health:gpu1:gpu_temperature", True)]
    well = meant("health_cleared", "disk_space_gb is well again", node="gpu1", data={"check": "disk_space_gb"})
    assert well == [("", "health:gpu1:disk_space_gb", False)]
    degraded = meant("node_health", "healthy -> degraded: 1.2 GB free", node="gpu1", data={"to": "degraded"})
    assert [topic for topic, _key, begins in degraded if begins] == ["node_degraded"]
    assert {key for _topic, key, begins in meant("node_health", "degraded -> healthy", node="gpu1") if not begins} == {
        "node:gpu1:unreachable", "node:gpu1:degraded", "health:gpu1:*",
    }  # fmt: skip


def test_jobs_and_everything_else_are_of_the_moment() -> None:
    failed = meant("job_status", "running -> failed: rank 1 on gpu1 ended with exit code 3", job="a")
    assert failed == [("job_failed", "once:job_failed:a::", True)]
    assert meant("job_status", "starting -> running", job="a") == []
    assert meant("left_over", "2 processes could not be ended", job="a", node="gpu1")[0][0] == "left_over"
    assert meant("alert_failed", "x") == []  # an alert about alerts would never end


def test_nobody_is_told_without_addresses_and_the_important_without_rules() -> None:
    assert rules_of(Settings()) == ()
    rules = rules_of(Settings(alert_urls=(URL,)))

    def told(*args: Any, **values: Any) -> bool:
        return any(rule_for(rules, change, "ob") for change in changes(event(*args, **values)) if change.begins)

    assert told("node_lost", "x", node="gpu1")
    assert told("job_status", "running -> failed: x", job="a")
    assert told("node_drain", "drained by health: x", node="gpu1")
    assert not told("node_drain", "drained by ob", "info", node="gpu1")
    assert told("left_over", "x", job="a")
    assert not told("rank_failed", "rank 1 on gpu1 was killed by SIGKILL", job="a", node="gpu1", rank=1)
    assert not told("job_status", "running -> completed", "info", job="a")
    assert not told("attempt", "attempt 1: rank 0 on gpu1:0", "info", job="a")
    assert not told("node_health", "healthy -> degraded: 88 C", "warning", node="gpu1", data={"to": "degraded"})
    assert not told("health_finding", "88 C", "warning", node="gpu1", data={"check": "gpu_temperature"})
    assert told("health_finding", "99 C", "error", node="gpu1", data={"check": "gpu_temperature"})
    assert told("health_finding", "3 GB free", "warning", node="gpu1", data={"check": "disk_space_gb"})


def test_the_first_rule_that_matches_decides() -> None:
    given = (
        {"match": {"kinds": ["job_*"], "user": "eve"}, "urls": ["json://eve/x"]},
        {"kinds": "node_unreachable", "node": "gpu[12]", "min_severity": "warning", "repeat_h": 0},
    )
    rules = rules_of(Settings(alert_urls=(URL,), alert_rules=given))
    (failed,) = changes(event("job_status", "running -> failed", job="a"))
    (lost,) = changes(event("node_lost", "x", node="gpu2"))
    assert [target.url for target in (rule_for(rules, failed, "eve") or Rule()).targets] == ["json://eve/x"]
    assert rule_for(rules, failed, "ob") is None
    assert rule_for(rules, lost, None) == rules[1]
    assert rule_for(rules, replace(lost, node="gpu3"), None) is None
    assert rule_for(rules, replace(lost, severity="info"), None) is None


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"kind": "x"}, "unknown key 'kind'"),
        ({"match": {"nodes": "x"}}, "unknown key 'nodes'"),
        ({"min_severity": "bad"}, "min_severity"),
        ({"kinds": ["Node Lost"]}, "kinds"),
        ({"repeat_h": -1}, "repeat_h"),
        ({"repeat_h": float("nan")}, "repeat_h"),
        ({"quiet": "night"}, "quiet"),
        ({"urls": ["nonsense"]}, "is no address"),
        ({"urls": [{"env": "UGRO_NOT_THERE"}]}, "holds no address"),
        ({"urls": [{"exec": "id"}]}, "neither an address nor"),
    ],
)
def test_a_wrong_rule_is_refused_with_its_place(rule: dict[str, Any], said: str) -> None:
    with pytest.raises(InventoryError, match=r"ugro_alerts\.rules\[0\]") as caught:
        rules_of(Settings(alert_urls=(URL,), alert_rules=(rule,)))
    assert said in str(caught.value)


def test_addresses_come_from_files_and_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "alert"
    secret.write_text("mailto://me:hunter2%21@mail.example:2525/?to=you@mail.example\n")
    monkeypatch.setenv("HOOK", "slack://TokenAAAA/TokenBBBB/TokenCCCC")
    found = targets(Settings(alert_urls=({"file": str(secret)}, {"env": "HOOK"}, {"env": "HOOK"})))
    assert [target.shown for target in found] == ["mailto://mail.example:2525", "slack://…"]
    assert "hunter2" not in repr(found) and "Token" not in repr(found)
    assert {"hunter2%21", "hunter2!"} <= set(found[0].secrets)
    assert "TokenAAAA" in found[1].secrets
    with pytest.raises(InventoryError, match="No such file"):
        targets(Settings(alert_urls=({"file": str(tmp_path / "none")},)))


def alert(**values: Any) -> AlertRow:
    row = AlertRow(
        1, "node:gpu1:unreachable", "node_unreachable", "error", "no answer", None, "gpu1", NOW, NOW, 1, None, None
    )
    return replace(row, **values)


def test_told_once_again_after_hours_and_when_over() -> None:
    rule = Rule(repeat_h=4)
    notice = due(alert(), rule, 1, NOW)
    assert notice is not None and notice.title == "[ugro] ERROR gpu1: node unreachable"
    told = alert(notified_at=NOW)
    assert due(told, rule, 1, NOW + timedelta(hours=3.9)) is None
    again = due(told, rule, 1, NOW + timedelta(hours=4))
    assert again is not None and again.kind == "again"
    assert due(told, Rule(repeat_h=0), 1, NOW + timedelta(days=99)) is None
    over = due(alert(notified_at=NOW, resolved_at=NOW + timedelta(minutes=1)), rule, 1, NOW + timedelta(minutes=1))
    assert over is not None and over.kind == "over" and "OVER" in over.title
    assert due(alert(notified_at=NOW, resolved_at=NOW), Rule(recovery=False), 1, NOW) is None


def test_what_flaps_is_told_only_once_it_lasts() -> None:
    assert due(alert(), Rule(), 2, NOW) is not None
    assert due(alert(), Rule(), 3, NOW) is None
    late = due(alert(), Rule(), 3, NOW + FLAP_HOLD)
    assert late is not None and "comes and goes" in late.body
    assert due(alert(key="once:job_failed:a::", rule="job_failed"), Rule(), 9, NOW) is not None


def test_quiet_hours_hold_back_until_they_end() -> None:
    (rule,) = rules_of(Settings(alert_urls=(URL,), alert_rules=({"quiet": "22:00-07:00"},)))
    night = datetime(2026, 1, 20, 23, 30).astimezone()
    assert due(alert(), rule, 1, night) is None
    assert due(alert(), rule, 1, night + timedelta(hours=6)) is None
    assert due(alert(), rule, 1, night + timedelta(hours=8)) is not None


def test_topics_are_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text()
    assert all(f"`{topic}`" in text for topic in TOPICS)
