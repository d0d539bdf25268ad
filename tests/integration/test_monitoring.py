# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A real agent with a job that runs: real Prometheus has what every panel asks for, and Loki each line once, also over
a restart of the agent."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml
from ansible_collections.ugro.cluster.plugins.module_utils import gpu_values
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.agents import running_agent
from tests.integration.support import SCRIPTS, Ugro, wait_until
from tests.integration.watchers import ROLE, asked, exporter, needs_them, rendered, rules, running
from tests.ports import free_port
from tests.unit.api_server import FakeAgent
from tests.unit.loki_sink import loki_sink
from ugro_py.api.client import Client
from ugro_py.api.prom import exposition
from ugro_py.state._health import Check

TOKEN = "of-prometheus-and-nobody-else"


def figures(ugro: Ugro) -> dict[str, float]:
    """Return the figures of the job that an agent tells."""
    text = b"".join(Client(ugro.data / "agent.sock").read("/metrics")).decode()
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("ugro_job") == "talks"
    }  # fmt: skip


def of_gpus(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what an agent tells of a GPU that was read, and of a node with something wrong: this machine has none."""
    folder.mkdir()
    with monkeypatch.context() as patch:
        patch.setenv("UGRO_DATA", str(folder))
        agent = FakeAgent(folder)
        reading = gpu_values.unknown(0) | {
            "uuid": "GPU-1", "util_percent": 87, "vram_used_gb": 3.5, "temperature_c": 71, "power_w": 120.5,
        }  # fmt: skip
        agent.reports = {"here": {"gpu": {"gpus": [reading]}, "node": {}}}
        hot = {"check": "gpu_temperature", "severity": "warning"}
        agent.store.record_checks([Check("here", "127.0.0.1", "degraded", findings=[hot], latency_ms=5.0)])
        text = exposition(agent).decode()
        agent.store.close()
    return "".join(line + "\n" for line in text.splitlines() if line.startswith(("ugro_gpu_", "ugro_node_findings")))


def expressions() -> dict[str, str]:
    """Return "dashboard: panel" -> expression, as Grafana sends them where everything is chosen; variables too."""
    found = {}
    for path in sorted((ROLE / "files" / "grafana").glob("*.json")):
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            for target in panel["targets"]:
                if target["datasource"]["type"] == "prometheus":
                    expr = target["expr"].replace("$__rate_interval", "10s")
                    found[f"{path.stem}: {panel['title']} {target['refId']}"] = re.sub(r"\$(node|job)\b", ".*", expr)
    assert not [expr for expr in found.values() if "$" in expr]
    return found


def values(port: int, query: str) -> list[str]:
    """Return what Prometheus answers to `label_values(METRIC, LABEL)`, asked as Grafana does."""
    match = re.fullmatch(r"label_values\((\w+), (\w+)\)", query)
    assert match, query
    with urlopen(
        f"http://127.0.0.1:{port}/api/v1/label/{match[2]}/values?{urlencode({'match[]': match[1]})}"
    ) as answer:
        found: list[str] = json.load(answer)["data"]
    return found


def variables() -> list[str]:
    boards = [json.loads(path.read_text()) for path in (ROLE / "files" / "grafana").glob("*.json")]
    return [
        variable["query"]["query"]
        for board in boards
        for variable in board["templating"]["list"]
        if variable["type"] == "query"
    ]  # fmt: skip


@pytest.mark.timeout(900)  # on a busy machine
@needs_them
def test_every_panel_has_data(
    make_ugro: Callable[..., Ugro], here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for in real Prometheus, which asks a real agent over TCP as the role sets it up, with a job that runs and
    one that failed, and Debian's node exporter. Figures of GPUs alone are told by a stand-in."""
    ugro, config, stop = make_ugro(here), tmp_path / "etc", tmp_path / "stop"
    agent, prometheus, node = free_port(), free_port(), free_port()
    tokens = tmp_path / "tokens"
    tokens.touch(0o600)
    tokens.write_text(f"prometheus {TOKEN}\n")
    ugro.run("ps")  # makes the store
    with (
        exporter(of_gpus(tmp_path / "gpus", monkeypatch)) as gpus,
        running("prometheus-node-exporter", node, tmp_path / "node.log"),
        running_agent(ugro, "--listen", f"127.0.0.1:{agent}", "--token-file", str(tokens)),
    ):
        settings: dict[str, Any] = {
            "inventory_hostname": "gpu-master", "monitoring_agent": f"127.0.0.1:{agent}",
            "monitoring_scrape_interval": "1s", "monitoring_prometheus_port": prometheus,
            "monitoring_alertmanager_port": free_port(), "monitoring_node_exporter": True,
            "monitoring_node_exporter_port": node, "monitoring_nodes": ["gpu-master"],
        }  # fmt: skip
        scraped = rendered("prometheus.yml.j2", config, **settings)
        written = yaml.safe_load(scraped.read_text())
        (job,) = [job for job in written["scrape_configs"] if job["job_name"] == "ugro-agent"]
        written["scrape_configs"].append(
            {"job_name": "gpus", "static_configs": [{"targets": [f"127.0.0.1:{gpus.port}"]}]}
        )
        scraped.write_text(yaml.safe_dump(written))
        assert job["static_configs"] == [{"targets": [f"127.0.0.1:{agent}"]}]
        (config / "ugro.token").write_text(TOKEN)
        rules(config)
        tsdb = (f"--config.file={scraped}", f"--storage.tsdb.path={tmp_path / 'tsdb'}")
        with running("prometheus", prometheus, tmp_path / "prometheus.log", *tsdb):
            wait_until(lambda: asked(prometheus, 'up{job="ugro-agent"} == 1'), "it is let in", 60, every_s=0.2)
            ugro.run("launch", "-d", "--name", "broken", "--script", SCRIPTS / "play.py", "--", "fail", "0")
            ugro.run("launch", "-d", "--name", "talks", "--script", SCRIPTS / "reports.py", "--", stop)
            missing = expressions()
            assert len(missing) > 40

            def nothing_is_missing() -> bool:
                for name, expression in list(missing.items()):
                    if asked(prometheus, expression):
                        del missing[name]
                return not missing

            try:
                wait_until(nothing_is_missing, "every panel has data", 180, every_s=0.5)
            except AssertionError:
                raise AssertionError(f"these have none: {missing}") from None
            found = {query: values(prometheus, query) for query in variables()}
            assert "talks" in found["label_values(ugro_job_info, ugro_job)"] and all(found.values())
        stop.touch()
        wait_until(lambda: ugro.json("status", "talks", "--json")["status"] == "completed", "it has ended", 120)


def test_logs_in_loki(make_ugro: Callable[..., Ugro], here: Path, tmp_path: Path) -> None:
    inventory, stop = yaml.safe_load(here.read_text()), tmp_path / "stop"
    with loki_sink() as sink:
        inventory["ugro_nodes"]["vars"]["ugro_loki"] = {"url": sink.url}
        path = tmp_path / "hosts.yml"
        path.write_text(yaml.safe_dump(inventory, sort_keys=False))
        ugro = make_ugro(path)
        ugro.run("ps")  # makes the store
        with running_agent(ugro):
            ugro.run("launch", "-d", "--name", "talks", "--script", SCRIPTS / "reports.py", "--nodes", 2, "--", stop)
            wait_until(lambda: sink.lines("talks", 1), "a line has arrived", 120)
            wait_until(lambda: "ugro_job_loss" in figures(ugro), "the job has figures", 120)
            found = figures(ugro)
            assert 0 < found["ugro_job_loss"] <= 1 <= found["ugro_job_step"]
            assert found["ugro_job_ranks"] == 2 and found["ugro_job_ranks_standing_still"] == 0
        stop.touch()
        with running_agent(ugro):
            wait_until(lambda: ugro.json("status", "talks", "--json")["status"] == "completed", "it has ended", 240)
            for rank in (0, 1):
                log = (ugro.data / "jobs" / "talks" / "logs" / f"rank_{rank}.log").read_text().splitlines()
                assert len(log) >= 150
                wait_until(lambda log=log, rank=rank: sink.lines("talks", rank) == log, "all lines are there", 60)
            assert not figures(ugro)
        assert sink.faults == []
