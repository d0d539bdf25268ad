# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A dry run shows the plan even where a launch would be refused, and says why it would be."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import yaml

from tests.integration.support import PLAY, Ugro
from ugro_py import users


def test_nodes_without_torch_are_planned_and_named(make_ugro: Callable[..., Ugro], tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    variables = {
        "ansible_connection": "local",
        "ansible_host": "127.0.0.1",
        "ansible_python_interpreter": sys.executable,
        "ugro_python": str(tmp_path / "bare" / "bin" / "python"),
    }
    inventory = tmp_path / "hosts.yml"
    nodes = {"vars": variables, "hosts": {"one": {"ugro_role": "master"}, "two": None}}
    inventory.write_text(yaml.safe_dump({"ugro_nodes": nodes}))
    ugro = make_ugro(inventory)
    shown = ugro.run("launch", "--dry-run", "--name", "planned")
    assert "rank 1  two" in shown.stdout
    assert shown.stdout.count("a launch would be refused: ") == 2
    assert "has no torch" in shown.stdout
    plan = json.loads(ugro.run("launch", "--dry-run", "--json").stdout)
    assert len(plan["blockers"]) == 2
    refused = ugro.run("launch", "--name", "planned", code=5)
    assert "has no torch" in refused.stderr
    assert ugro.jobs() == []


def test_what_the_queue_would_say_is_said(ugro_here: Ugro) -> None:
    me = users.me().user
    words = ("launch", "--dry-run", "--name", "planned", "--script", PLAY)
    shown = ugro_here.run(*words, "--hold").stdout.splitlines()
    assert shown[-2:] == [f"a launch would wait in the queue: held by {me}", "dry run: nothing was started"]
    assert any(line.startswith("  rank 0  ") for line in shown)
    with ugro_here.store() as store:
        store.set_account("user", me, gpu_hours_week=0)
    plan = ugro_here.json(*words, "--json")
    assert plan["would_wait"].startswith(f"quota: {me} used 0.0 of 0 GPU hours") and plan["ranks"]
    assert plan["would_fail"] == ""
    assert "quota: " in ugro_here.run(*words, "--no-wait", code=6).stderr
    assert ugro_here.jobs() == []
