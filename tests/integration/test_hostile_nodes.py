# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Two users of one agent on real nodes: whose account ranks run as, and what one can do to the other's job."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.support import SCRIPTS, Ugro, ranks_on, wait_until
from tests.integration.two_users import ALICE, MALLORY, Master, needs_accounts
from tests.lab import Host, Lab
from tests.lab.image import USERS
from ugro_py.users import me

pytestmark = [pytest.mark.lab, needs_accounts]
pytest_plugins = ["tests.integration.two_users"]
ON_NODES = {ALICE: "ob", MALLORY: "ollie"}


@pytest.fixture(scope="module")
def both(accounts: None, lab3: Lab) -> Iterator[Master]:
    """A master whose agent is root here, with three real hosts on which each user has an account of their own."""
    inventory = lab3.inventory_file("two_users.yml", slots=2)
    values = yaml.safe_load(inventory.read_text())
    values["all"]["vars"]["ugro_accounts"] = ON_NODES
    inventory.write_text(yaml.safe_dump(values))
    folder = Path(tempfile.mkdtemp(prefix="ugro-users-"))
    folder.chmod(0o755)
    made = Master(folder, inventory)
    try:
        yield made
    finally:
        made.close()
        print((folder / "agent.log").read_text()[-4000:])  # shown where a test failed
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def hers(both: Master, lab3: Lab) -> str:
    """A job of alice that runs on two nodes."""
    submit(both, ALICE, "hers", ["work"], nodes=2, gpus=2, include=["gpu1", "gpu2"])
    with both.store() as store:
        wait_until(lambda: store.job("hers").status not in ("pending", "starting"), "her job has started")
        assert store.job("hers").status == "running", store.job("hers")
    wait_until(lambda: "working" in log(both, "hers", 0) and "working" in log(both, "hers", 1), "her ranks work")
    return "hers"


def submit(both: Master, user: str, name: str, args: list[str], **request: Any) -> None:
    code = both.folder / "code"
    code.mkdir(exist_ok=True)
    shutil.copy(SCRIPTS / "intruder.py", code)
    values = {"name": name, "script": "intruder.py", "args": args, **request}
    body = {"request": values, "upload": both.upload(user, code, name)}
    status, answer = both.ask(user, "POST", "/v1/jobs", body)
    assert status == 200, answer


def log(both: Master, name: str, rank: int = 0) -> str:
    path = both.data / "jobs" / name / "logs" / f"rank_{rank}.log"
    return path.read_text() if path.exists() else ""


def told(both: Master, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log(both, name).splitlines() if line.startswith("{")]


def status_of(both: Master, name: str) -> str:
    with both.store() as store:
        return store.job(name).status


def token(both: Master, name: str, attempt: int = 1) -> str:
    gang = json.loads((both.data / "jobs" / name / "attempts" / str(attempt) / "gang.json").read_text())
    return str(gang["gang"]["token"])


def uids(host: Host, of: str) -> set[int]:
    return {Path(f"/proc/{pid}").stat().st_uid for pid in host.processes(of)}


def test_ranks_run_as_the_account_on_the_node(both: Master, lab3: Lab, hers: str) -> None:
    found = {host.name: uids(host, token(both, hers)) for host in lab3.hosts}
    assert found == {"gpu-master": set(), "gpu1": {USERS["ob"]}, "gpu2": {USERS["ob"]}}
    for line in told(both, hers)[:1]:
        assert (line["uid"], line["home"], 0 in line["groups"]) == (USERS["ob"], "/home/ob", False)


def test_another_account_cannot_get_at_it(both: Master, lab3: Lab, hers: str) -> None:
    gpu1 = lab3.host("gpu1")
    before = ranks_on(gpu1, token(both, hers))
    # Homes are open on many machines: what keeps others out is to be UGRO's own.
    gpu1.enter(["chmod", "755", "/home/ob"])
    try:
        submit(both, MALLORY, "intruder", ["attack", "/home/ob"], gpus=1, include=["gpu1"])
        wait_until(lambda: status_of(both, "intruder") == "failed", "the intruder has ended")
    finally:
        gpu1.enter(["chmod", "700", "/home/ob"])
    lines = told(both, "intruder")
    assert lines[0]["uid"] == USERS["ollie"] and lines[1]["sees"] >= 1
    tries = {line["tried"]: line for line in lines if "tried" in line}
    assert len(tries) >= 14
    assert {name for name, line in tries.items() if "got" in line} <= {"log"}, tries
    assert ranks_on(gpu1, token(both, hers)) == before and before
    assert status_of(both, hers) == "running"


def test_links_among_checkpoints_are_a_trap_for_nobody(both: Master, lab3: Lab, hers: str) -> None:
    kept = both.data / "jobs" / "intruder"
    links = [path for path in kept.rglob("*") if path.is_symlink()]
    assert not links, links
    assert (kept / "checkpoints" / "saved" / "model.bin").read_text() == "weights"
    assert {path.stat().st_uid for path in kept.rglob("*")} == {0}
    # What it goes on from is its own, and only that.
    assert both.ask(MALLORY, "POST", "/v1/jobs/intruder/resume")[0] == 200
    wait_until(lambda: status_of(both, "intruder") not in ("pending", "starting", "running", "collecting"), "it ended")
    found = told(both, "intruder")
    assert [line["file"] for line in found if "file" in line] == ["model.bin"], found
    assert "root:" not in log(both, "intruder")


def test_her_job_is_not_to_be_changed_or_broken(both: Master, hers: str) -> None:
    for verb, body in {
        "stop": {"force": True}, "hold": {}, "release": {}, "priority": {"priority": 1}, "move": {"to": "first"},
        "cancel": {}, "resume": {}, "rerun": {"name": "stolen"},
    }.items():  # fmt: skip
        forged = {"X-Remote-User": ALICE, "Authorization": f"Bearer {ALICE}"}
        status, answer = both.ask(MALLORY, "POST", f"/v1/jobs/{hers}/{verb}", body, forged)
        assert (status, answer["error"]["exit_code"]) == (403, 11), (verb, answer)
    assert status_of(both, hers) == "running"
    database = both.data / "ugro.db"
    assert database.stat().st_mode & 0o777 == 0o600 and both.data.stat().st_mode & 0o077 == 0
    sql = f"import sqlite3; sqlite3.connect('{database}').execute('update jobs set stop_requested = 1')"
    assert both.as_user(MALLORY, ["/usr/bin/python3", "-c", sql]).returncode != 0


def test_who_may_drill(both: Master, hers: str) -> None:
    url, pause = f"/v1/jobs/{hers}/drill", {"action": "pause-node", "node": "gpu1", "seconds": 0.5, "timeout_s": 2}
    assert both.ask(MALLORY, "POST", url, pause)[0] == 403
    status, answer = both.ask(ALICE, "POST", url, pause)
    assert status == 200 and (answer["result"]["node"], answer["result"]["status"]) == ("gpu1", "running"), answer
    assert "pause-node: gpu1 at" in answer["lines"][0]
    status, answer = both.ask(ALICE, "POST", url, {"action": "kill-node", "node": "gpu1", "power": True, "yes": True})
    assert status == 403 and "only an admin may" in answer["error"]["came_back"], answer
    status, answer = both.ask(ALICE, "POST", url, {"action": "kill-rank"})
    assert status == 400 and "no retry is left" in answer["error"]["came_back"], answer
    with both.store() as store:
        assert [event.data["by"] for event in store.events(hers) if event.kind == "drill"] == [ALICE]


def test_quotas_hold(both: Master, hers: str) -> None:
    with both.store() as store:
        store.set_account("user", MALLORY, max_gpus=1, max_queued=2)
    try:
        submit(both, MALLORY, "within", ["work"], gpus=1)
        submit(both, MALLORY, "beyond", ["work"], gpus=1)
        wait_until(lambda: status_of(both, "within") == "running", "the first runs")
        status, answer = both.ask(MALLORY, "POST", "/v1/jobs", {"request": {"name": "third", "hold": True}})
        assert status == 403 and "quota" in answer["error"]["came_back"], answer
        with both.store() as store:
            # What was said of it before the first ran may be something else.
            wait_until(lambda: "1 GPU" in store.job("beyond").reason, "it is said why")
            assert store.job("beyond").status == "pending"
            assert sum(job == "beyond" for job in store.busy().values()) == 0
            # Hours: none are left, so nothing of hers starts, however many GPUs are free.
            store.set_account("user", MALLORY, max_gpus=None, gpu_hours_week=0)
            wait_until(lambda: "hours" in store.job("beyond").reason, "hours")
            assert store.job("beyond").status == "pending"
    finally:
        with both.store() as store:
            store.set_account("user", MALLORY, max_gpus=None, max_queued=None, gpu_hours_week=None)
        for name in ("beyond", "within"):
            both.ask(MALLORY, "POST", f"/v1/jobs/{name}/stop", {"force": True})
    wait_until(lambda: {status_of(both, n) for n in ("beyond", "within")} <= {"stopped"}, "both have ended")


def test_accounts_hold_without_an_agent_too(lab3: Lab, make_ugro: Callable[..., Ugro]) -> None:
    inventory = lab3.inventory_file("own.yml")
    values = yaml.safe_load(inventory.read_text())
    values["all"]["vars"]["ugro_accounts"] = {me().user: "ollie"}
    inventory.write_text(yaml.safe_dump(values))
    ugro = make_ugro(inventory, lab3)
    ugro.run("launch", "-d", "--name", "own", "--script", SCRIPTS / "intruder.py", "--gpus", 1, "--include", "gpu1",
             "--", "work")  # fmt: skip
    ugro.wait_for_log("own", "working", [0])
    assert uids(lab3.host("gpu1"), ugro.token("own")) == {USERS["ollie"]}
    ugro.run("stop", "own", "--force")
    assert ugro.leftovers(ugro.token("own")) == {}


def test_the_owner_ends_it_and_nothing_is_left(both: Master, lab3: Lab, hers: str) -> None:
    assert both.ask(ALICE, "POST", f"/v1/jobs/{hers}/stop")[0] == 200
    wait_until(lambda: status_of(both, hers) == "stopped", "it has ended")
    assert not [host.name for host in lab3.hosts if host.processes(token(both, hers))]
    assert (both.data / "jobs" / hers / "checkpoints" / "mine.pt").read_text() == "hers"
