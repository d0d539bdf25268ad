# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What an inventory says of how the cluster is run."""

from __future__ import annotations

from pathlib import Path

import pytest

from ugro_py.cluster import Settings
from ugro_py.inventory import cluster_from_hostvars, load_cluster
from ugro_py.inventory.keys import SETTINGS_NAMES
from ugro_py.inventory.settings import SETTING_KEYS
from ugro_py.plan import Gang
from ugro_py.saved import load_gang, save_gang

INVENTORY = """
ugro_nodes:
  vars:
    ugro_recovery: {retry: 2, backoff_s: 5, grace_s: 30}
    ugro_health:
      interval_s: 5
      retention_days: 7
      thresholds: {temperature_c_warning: 80}
    ugro_queue: {fair_share_half_life_h: 24, preemption: true}
    ugro_alerts:
      urls: [{file: /etc/ugro/mail}, "ntfy://lab"]
      rules: [{kinds: [node_lost], repeat_h: 4}]
    ugro_users: {max_priority: 90, audit_days: 30}
    ugro_loki: {url: "https://loki.lan:3100", tenant: lab, token_file: /etc/ugro/loki, user: "12", ca_file: /etc/ca.pem}
    ugro_accounts: {alice: trainer}
  hosts:
    gpu-master: {ugro_role: master, ansible_host: 10.0.0.1}
"""
EXPECTED = Settings(
    retry=2, retry_backoff_s=5.0, grace_s=30.0,
    health_interval_s=5.0, health_retention_days=7.0, health_thresholds={"temperature_c_warning": 80.0},
    fair_share_half_life_h=24.0, preemption=True,
    alert_urls=({"file": "/etc/ugro/mail"}, "ntfy://lab"), alert_rules=({"kinds": ["node_lost"], "repeat_h": 4},),
    accounts={"alice": "trainer"}, max_priority=90, audit_days=30.0,
    loki_url="https://loki.lan:3100", loki_tenant="lab", loki_token_file="/etc/ugro/loki",
    loki_user="12", loki_ca_file="/etc/ca.pem",
)  # fmt: skip


def test_every_key_reaches_its_field(tmp_path: Path) -> None:
    file = tmp_path / "hosts.yml"
    file.write_text(INVENTORY)
    assert load_cluster(file).settings == EXPECTED


def test_ansible_gives_the_same() -> None:
    variables = {
        "ugro_role": "master",
        "ugro_recovery": {"retry": 2, "backoff_s": 5, "grace_s": 30},
        "ugro_accounts": {"alice": "trainer"},
    }
    settings = cluster_from_hostvars({"gpu-master": variables}, "/inventory").settings
    assert settings == Settings(retry=2, retry_backoff_s=5.0, grace_s=30.0, accounts={"alice": "trainer"})


def test_defaults() -> None:
    assert cluster_from_hostvars({"gpu-master": {"ugro_role": "master"}}, "/inventory").settings == Settings()


def test_both_lists_of_names_agree() -> None:
    assert set(SETTINGS_NAMES) == set(SETTING_KEYS)


def test_a_controller_that_takes_over_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UGRO_DATA", str(tmp_path))
    file = tmp_path / "hosts.yml"
    file.write_text(INVENTORY)
    save_gang(Gang("job", 1, (), "10.0.0.1", 29500, "token"), load_cluster(file))
    loaded = load_gang("job", 1)
    assert loaded is not None
    kept = loaded[1].settings
    assert (kept.retry, kept.accounts, kept.health_thresholds) == (2, {"alice": "trainer"}, EXPECTED.health_thresholds)
