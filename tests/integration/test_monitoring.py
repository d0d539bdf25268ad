# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What a real agent tells Prometheus of a job that runs, and pushes to Loki, also over a restart of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.agents import running_agent
from tests.integration.support import SCRIPTS, Ugro, wait_until
from tests.unit.loki_sink import loki_sink
from ugro_py.api.client import Client


def figures(ugro: Ugro) -> dict[str, float]:
    """Return the figures of the job that an agent tells."""
    text = b"".join(Client(ugro.data / "agent.sock").read("/metrics")).decode()
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("ugro_job") == "talks"
    }  # fmt: skip


def test_a_job_in_prometheus_and_loki(make_ugro: Callable[..., Ugro], here: Path, tmp_path: Path) -> None:
    inventory = yaml.safe_load(here.read_text())
    with loki_sink() as sink:
        inventory["ugro_nodes"]["vars"]["ugro_loki"] = {"url": sink.url}
        path = tmp_path / "hosts.yml"
        path.write_text(yaml.safe_dump(inventory, sort_keys=False))
        ugro = make_ugro(path)
        ugro.run("ps")  # makes the store
        with running_agent(ugro):
            script = ("--script", SCRIPTS / "play.py", "--nodes", 2)
            ugro.run("launch", "-d", "--name", "talks", *script, "--", "steps", "150", "0.1")
            wait_until(lambda: sink.lines("talks", 1), "a line has arrived", 120)
            wait_until(lambda: "ugro_job_loss" in figures(ugro), "the job has figures", 120)
            found = figures(ugro)
            assert 0 < found["ugro_job_loss"] <= 1 <= found["ugro_job_step"]
            assert found["ugro_job_ranks"] == 2 and found["ugro_job_ranks_standing_still"] == 0
        with running_agent(ugro):
            wait_until(lambda: ugro.json("status", "talks", "--json")["status"] == "completed", "it has ended", 240)
            for rank in (0, 1):
                log = (ugro.data / "jobs" / "talks" / "logs" / f"rank_{rank}.log").read_text().splitlines()
                assert len(log) >= 150
                wait_until(lambda log=log, rank=rank: sink.lines("talks", rank) == log, "all lines are there", 60)
            assert not figures(ugro)
        assert sink.faults == []
