# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""`ugro health`, `nodes ls` and `pull` of somebody who has no store: the agent, on a real socket, tells all of it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.unit.api_server import Served
from ugro_py.agent.timings import Timings
from ugro_py.api import fetch
from ugro_py.api.client import Client
from ugro_py.cli import cli
from ugro_py.cluster import Cluster, Node
from ugro_py.errors import NodeError, NotFoundError, StateError, UsageError, VerificationError
from ugro_py.health import live, told
from ugro_py.paths import JobPaths
from ugro_py.scheduler import Gpu, Request, place
from ugro_py.state._health import Check

DISK = {
    "check": "disk_space_gb",
    "severity": "critical",
    "text": "2 GB free",
    "remedy": "remove something",
    "value": 2.0,
}
GONE = {"check": "ssh_reachable", "severity": "critical", "text": "unreachable: no route", "remedy": "", "value": None}


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """Return an agent whose socket is not in the caller's own store."""
    monkeypatch.setenv("UGRO_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("UGRO_AGENT", str(tmp_path / "agent.sock"))
    for name in ("UGRO_INVENTORY", "UGRO_MASTER", "UGRO_DB"):
        monkeypatch.delenv(name, raising=False)
    made = Served(tmp_path)
    nodes = [Node(name, f"10.0.0.{index}") for index, name in enumerate(("well", "full", "gone", "new"), 1)]
    made.agent.cluster = Cluster("far away", (*nodes,), tmp_path / "hosts.yml")
    store = made.agent.store
    cards = [Gpu(f"GPU-{index}", "well", index, "cuda", "NVIDIA GeForce RTX 4070", 8.0) for index in range(2)]
    store.sync_node(nodes[0], cards, {"node": {"cpu_count": 4}})
    store.sync_node(nodes[1], [Gpu("CPU-full-0", "full", 0, "cpu", "CPU", None)], {"node": {"cpu_count": 4}})
    store.record_checks(
        [
            Check("well", "10.0.0.1", "healthy", latency_ms=1.5),
            Check("full", "10.0.0.2", "degraded", "2 GB free", "critical", 2.5, [DISK]),
            Check("gone", "10.0.0.3", "unreachable", "no route", "critical", None, [GONE]),
        ]
    )
    yield made
    made.close()


def ugro(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


def test_health_is_what_the_agent_knows(served: Served) -> None:
    shown = ugro("health")
    assert isinstance(shown.exception, NodeError), shown.output
    assert shown.stdout.splitlines() == [
        "✓ well: 2 x RTX 4070 (8GB)",
        "✗ full: 2 GB free; remove something",
        "✗ gone: unreachable: no route",
        "! new: the agent has not looked at it yet; ask again soon",
    ]
    served.agent.store.drain("well", "ob", "new fan", address="10.0.0.1")
    data = json.loads(ugro("health", "--json").stdout)
    assert data["severity"] == "critical"
    assert {name: entry["state"] for name, entry in data["nodes"].items()} == {
        "well": "drained", "full": "degraded", "gone": "unreachable", "new": "unknown",
    }  # fmt: skip
    assert data["nodes"]["full"]["findings"] == [DISK] and data["nodes"]["full"]["latency_ms"] == 2.5
    assert data["nodes"]["well"]["drain"] == "drained by ob: new fan" and data["nodes"]["well"]["at"]
    assert "- well: drained, drained by ob: new fan" in ugro("health").stdout
    served.agent.store.record_checks([Check("gone", "10.0.0.3", "healthy")])
    assert isinstance(ugro("health").exception, VerificationError)


def test_one_that_answers_again_is_not_fit_before_that_counts(served: Served) -> None:
    served.agent.store.record_checks([Check("gone", "10.0.0.3", "unreachable", "no route", keep=True)])
    assert "✗ gone: unreachable: no route" in ugro("health").stdout


@pytest.mark.parametrize("as_json", [True, False])
def test_health_can_be_watched(served: Served, as_json: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_TOLD_EVERY_S", 0.05)
    monkeypatch.setattr(live, "_DRAWN_EVERY_S", 0.05)
    said: list[str] = []

    def write(line: str) -> None:
        said.append(line)
        if len(said) == 4:
            served.agent.store.record_checks([Check("full", "10.0.0.2", "healthy")])
        if len(said) > 4 and "full" in line:
            entry = json.loads(line)["nodes"]["full"] if as_json else {"state": line.split()[2]}
            if entry["state"].rstrip(":") == "healthy":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        live.watch_told(Client(served.path), write, as_json=as_json, terminal=False)
    if not as_json:
        assert "full: degraded: 2 GB free" in said[1] and "gone: unreachable: no route" in said[2]


def test_a_watcher_is_told_that_the_agent_is_gone(served: Served, tmp_path: Path) -> None:
    with pytest.raises(StateError, match="agent at"):
        live.watch_told(Client(tmp_path / "no.sock"), print, as_json=True, terminal=False)
    table = live.draw(told.as_data(told.told(Client(served.path))))
    assert table.row_count == 4


def test_nodes_are_the_agents_unless_an_inventory_is_named(served: Served, tmp_path: Path) -> None:
    shown = ugro("nodes", "ls")
    assert shown.exit_code == 0, shown.output
    assert "far away" in shown.stdout and "10.0.0.2" in shown.stdout
    data = json.loads(ugro("nodes", "ls", "--json").stdout)
    assert [(node["name"], node["state"]) for node in data["nodes"]] == [
        ("well", "healthy"), ("full", "degraded"), ("gone", "unreachable"), ("new", "unknown"),
    ]  # fmt: skip
    assert not {"ssh_key", "ssh_args"} & set(data["nodes"][0]), "only the inventory's owner needs them"
    own = tmp_path / "own.yml"
    own.write_text("ugro_nodes:\n  hosts:\n    full: {ansible_host: 10.0.0.2, ugro_role: master}\n")
    mine = json.loads(ugro("-i", str(own), "nodes", "ls", "--json").stdout)["nodes"]
    assert [(node["name"], node["state"]) for node in mine] == [("full", "degraded")]


@pytest.fixture
def job(served: Served) -> JobPaths:
    served.agent.store.create_job("first", "ob", {})
    served.agent.store.set_job("first", "completed")
    paths = JobPaths("first")
    for folder in (paths.logs, paths.checkpoints):
        folder.mkdir(parents=True)
    paths.metrics.write_text('{"step": 1}\n')
    paths.rank_log(0).write_bytes(b"hello\n")
    (paths.checkpoints / "100 % of it?#.pt").write_bytes(b"x" * 3_000_000)
    Path(os.fsdecode(os.fsencode(paths.checkpoints) + b"/caf\xe9")).write_bytes(b"")
    (paths.checkpoints / "out").symlink_to("/etc/passwd")
    paths.config.write_text("{}")
    return paths


def test_the_log_of_an_earlier_attempt_through_the_agent(served: Served, job: JobPaths) -> None:
    store = served.agent.store
    store.create_job("again", "ob", {})
    paths = JobPaths("again")
    paths.logs.mkdir(parents=True)
    for number in (1, 2):
        slot = place(Request(), ["full"], store.gpus(), {})
        assert number == store.start_attempt("again", slot, master_addr="10.0.0.2", master_port=29500, token="t")
        store.set_job("again", "running")
        paths.rank_log(0).write_bytes(b"of %d\n" % number)
        if number == 1:
            paths.attempt(1).mkdir(parents=True)
            store.set_attempt("again", 1, status="failed")
            store.release("again")
            paths.keep_logs(1)
    assert ugro("logs", "again").stdout == ugro("logs", "again", "--attempt", "2").stdout == "of 2\n"
    assert ugro("logs", "again", "--attempt", "1").stdout == "of 1\n"
    assert ugro("logs", "again", "--attempt", "1", "-f").stdout == "of 1\n", "it ends, though the job runs"
    assert isinstance(ugro("logs", "again", "--attempt", "3").exception, NotFoundError)
    assert isinstance(ugro("logs", "first", "--attempt", "1").exception, NotFoundError), "it has never begun"


def test_a_job_is_pulled_through_the_agent(served: Served, job: JobPaths, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    pulled = ugro("pull", "first", str(target), "--json")
    assert pulled.exit_code == 0, pulled.output
    names = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert {"metrics.jsonl", "logs/rank_0.log", "checkpoints/100 % of it?#.pt"} <= names
    assert not {"config.json", "checkpoints/out"} & names
    large = "checkpoints/100 % of it?#.pt"
    assert (target / large).read_bytes() == (job.root / large).read_bytes()
    data = json.loads(pulled.stdout)
    assert data["files"] == len(names) and data["bytes"] == sum((target / name).stat().st_size for name in names)
    again = ugro("pull", "first", str(target))
    assert isinstance(again.exception, UsageError) and "not empty" in str(again.exception)
    assert ugro("pull", "first", str(target), "--force").exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir() if "copy" in path.name) == ["copy"], "no part is left"
    with pytest.raises(NotFoundError):
        fetch.fetch(Client(served.path), "nope", tmp_path / "nope")


class Liar(Client):
    """What an agent says of a job's files, with something changed."""

    def __init__(self, socket: Path, files: list[dict[str, Any]]) -> None:
        super().__init__(socket)
        self.files = files

    def get(self, path: str, **query: Any) -> Any:
        return self.files if path.endswith("/files") else super().get(path, **query)


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "logs/../../evil", "logs//x", "", "a/./b", "logs/\0"]
)  # fmt: skip
def test_no_name_leads_out_of_the_folder(served: Served, job: JobPaths, tmp_path: Path, name: str) -> None:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(StateError, match="leads out"):
        fetch.fetch(Liar(served.path, [{"path": name, "size": 0}]), "first", tmp_path / "copy")
    assert sorted(tmp_path.iterdir()) == before


def test_a_file_of_another_size_makes_no_copy(served: Served, job: JobPaths, tmp_path: Path) -> None:
    liar = Liar(served.path, [{"path": "metrics.jsonl", "size": 999}])
    with pytest.raises(StateError, match="12 bytes of 999"):
        fetch.fetch(liar, "first", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    served.agent.store.create_job("running", "ob", {})
    served.agent.store.set_job("running", "running")
    job.root.rename(JobPaths("running").root)
    assert fetch.fetch(liar, "running", tmp_path / "copy").size == 12, "its files change while it runs"
    gone = Liar(served.path, [{"path": "logs/rank_7.log", "size": 1}])
    assert fetch.fetch(gone, "running", tmp_path / "less").skipped == (Path("logs/rank_7.log"),)


def test_the_sweep_is_among_the_loops(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the agent wires it: a sweep of nodes that are not there, its time in the API's answers."""
    from ugro_py.agent.wiring import part_makers

    clock = Timings()
    agent: Any = served.agent
    agent.clock, agent.on_inventory, agent.timings = clock, None, clock.all
    agent.cluster = Cluster("test", (Node("no", "127.0.0.1", connection="local", python="/no/python"),), Path("/none"))

    async def sweep() -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(part_makers(agent)["health"][0]()(stop))
        async with asyncio.timeout(30):
            while "sweep" not in clock.all():
                await asyncio.sleep(0.05)
        stop.set()
        await running

    asyncio.run(sweep())
    client = Client(served.path)
    assert client.get("/v1/agent")["loops"]["sweep"]["count"] >= 1
    figures = b"".join(client.read("/metrics")).decode()
    assert 'ugro_agent_round_seconds_count{loop="sweep"}' in figures
