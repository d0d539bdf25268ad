# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The agent tells people of a job that really failed, once, also over a restart of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import yaml

from tests.integration.agents import running_agent
from tests.integration.support import SCRIPTS, Ugro, wait_until
from tests.sinks import http_sink


def test_a_failed_job_is_told_of_once(make_ugro: Callable[..., Ugro], here: Path, tmp_path: Path) -> None:
    inventory = yaml.safe_load(here.read_text())
    with http_sink() as sink:
        settings = {"urls": [f"json://127.0.0.1:{sink.port}/hook"], "rules": [{"kinds": ["job_failed"]}]}
        inventory["ugro_nodes"]["vars"]["ugro_alerts"] = settings
        path = tmp_path / "hosts.yml"
        path.write_text(yaml.safe_dump(inventory, sort_keys=False))
        ugro = make_ugro(path)
        ugro.run("ps")  # makes the store
        with running_agent(ugro):
            ugro.run("launch", "--name", "broke", "--script", SCRIPTS / "breaks.py", "--nodes", 2, "--", "code", code=7)
            wait_until(lambda: sink.taken, "the alert has arrived")
            wait_until(lambda: not ugro.json("alerts", "--json"), "it is done with")
        with running_agent(ugro):
            ugro.run("launch", "--name", "again", "--script", SCRIPTS / "breaks.py", "--nodes", 2, "--", "code", code=7)
            wait_until(lambda: len(sink.taken) > 1, "the alert has arrived")
    assert [item["title"] for item in sink.taken] == [f"[ugro] ERROR {name}: job failed" for name in ("broke", "again")]
    assert "rank 1 on gpu1 ended with exit code 3" in sink.taken[0]["message"]
