# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Who somebody is, roles, quotas, usage and the audit trail; `ugro users`, `ugro usage`, `ugro --master`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ugro_py import usage, users
from ugro_py.cluster import Cluster, Node, Settings
from ugro_py.errors import RightsError, UsageError
from ugro_py.scheduler import Gpu, Placement
from ugro_py.state import Store, tables

UGRO = Path(sys.prefix) / "bin" / "ugro"
ALICE, BOB = users.Person("alice", 5001, ("alice", "lab")), users.Person("bob", 5002, ("bob",))


def test_me_is_not_who_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "somebody")
    monkeypatch.setenv("LOGNAME", "somebody")
    assert users.me().user != "somebody" and users.me().uid == os.geteuid()
    assert users.person_of(4_000_000).user == "4000000"


def test_roles_come_from_the_account_the_name_or_a_group(store: Store) -> None:
    assert users.is_admin(store, users.Person("root", 0))
    assert users.is_admin(store, users.Person("agent", 777), owner=777)
    assert not users.is_admin(store, ALICE) and not users.is_admin(store, users.Person("0", None))
    store.set_account("group", "lab", role="admin")
    assert users.is_admin(store, ALICE) and not users.is_admin(store, BOB)
    store.set_account("group", "lab", role="user")
    store.set_account("user", "bob", role="admin")
    assert not users.is_admin(store, ALICE) and users.is_admin(store, BOB)


def test_only_the_owner_and_admins_change_a_job(store: Store) -> None:
    job = store.create_job("a", "alice", {})
    users.check_owner(store, ALICE, job, "stop")
    users.check_owner(store, users.Person("root", 0), job, "stop")
    with pytest.raises(RightsError, match="it is alice's, you are bob"):
        users.check_owner(store, BOB, job, "stop")


def test_a_mapped_user_has_their_own_account_on_every_node() -> None:
    nodes = (Node("m", "10.0.0.1", "master", "local"), Node("w", "10.0.0.2", user="ob"))
    cluster = Cluster("c", nodes, Path("x"), settings=Settings(accounts={"alice": "al"}))
    mapped = users.cluster_for(cluster, "alice")
    assert [(node.user, node.connection) for node in mapped.nodes] == [("al", "ssh"), ("al", "ssh")]
    assert users.cluster_for(cluster, "bob") is cluster
    users.check_isolation(cluster, ALICE, False, {})
    users.check_isolation(cluster, BOB, True, {})
    users.check_isolation(cluster, BOB, False, {"m": True})
    with pytest.raises(RightsError, match="agent's own account"):
        users.check_isolation(cluster, BOB, False, {})
    by_address = Cluster("c", (Node("m", "127.0.0.1", "master", user="agent"),), Path("x"))
    with pytest.raises(RightsError, match="agent's own account"):
        users.check_isolation(by_address, BOB, False, {})


def test_quotas_are_checked_and_keep_what_is_not_given(store: Store) -> None:
    store.set_account("user", "alice", max_gpus=2)
    row = store.set_account("user", "alice", gpu_hours_week=1.5)
    assert (row.max_gpus, row.gpu_hours_week, row.role) == (2, 1.5, "user")
    assert store.set_account("user", "alice", max_gpus=None).max_gpus is None
    for kind, name, values in (
        ("user", "a b", {"max_gpus": 1}),
        ("user", "", {"max_gpus": 1}),
        ("host", "a", {"max_gpus": 1}),
        ("user", "a", {"role": "king"}),
        ("user", "a", {"max_queued": -1}),
        ("user", "a", {"gpu_hours_week": float("nan")}),
    ):
        with pytest.raises(UsageError):
            store.set_account(kind, name, **values)
    assert [row.name for row in store.accounts()] == ["alice"]


def test_usage_counts_the_time_gpus_were_held(store: Store) -> None:
    gpu = [Gpu(uuid=f"G{n}", node="w", index=n, kind="cuda", name="x", vram_gb=8.0) for n in range(3)]
    store.sync_node(Node("w", "10.0.0.2"), gpu, {})
    begin = datetime.now(UTC)
    for user, job, which in (("alice", "a", gpu[:2]), ("bob", "b", gpu[2:])):
        store.create_job(job, user, {}, group="lab" if user == "alice" else None)
        places = [Placement(rank=n, node="w", local_rank=n, gpu=one) for n, one in enumerate(which)]
        store.start_attempt(job, places, master_addr="x", master_port=1, token="t")
    store.release("b")
    later = datetime.now(UTC) + timedelta(hours=2)
    rows = {row.job: row for row in store.usage(begin - timedelta(days=1), later)}
    assert rows["a"].gpus == 2 and rows["a"].gpu_hours == pytest.approx(4, abs=0.05)
    assert rows["b"].gpus == 0 and rows["b"].gpu_hours < 0.05
    half = {row.job: row.gpu_hours for row in store.usage(later - timedelta(hours=1), later)}
    assert half == {"a": pytest.approx(2, abs=0.01)}
    store.set_account("user", "carol", max_gpus=1)
    told = usage.report(store, begin, later)
    assert [entry["user"] for entry in told["users"]] == ["alice", "bob", "carol"]
    assert told["users"][0]["share"] > 0.95 and told["groups"][0]["group"] == "lab"
    assert told["users"][2]["quota"]["max_gpus"] == 1


def test_what_was_used_is_shown_however_little_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    quota = {"max_gpus": None, "max_queued": None, "gpu_hours_week": None}
    user = {"user": "ob", "share": 1.0, "jobs": 1, "gpus": 0, "gpu_hours_week": 12.3456, "quota": quota}
    job = {"job": "one", "user": "ob", "group": None, "gpus": 0}
    tables.print_usage({"users": [user | {"gpu_hours": 0.0048}], "groups": [], "jobs": [job | {"gpu_hours": 0.0002}]})
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert shown[1] == ["ob", "0.0048", "100%", "1", "0", "12.35"]
    assert [line[0] for line in shown if line] == ["USER", "ob", "JOB", "one"], "and no table of groups: there are none"
    assert shown[-1] == ["one", "ob", "0.0002", "0"]


def test_the_audit_trail_keeps_order_and_is_cut_to_size(store: Store) -> None:
    for number in range(5):
        store.record("alice", 5001, "stop", f"job{number}", "x" * 1000)
    store.record("bob", None, "v" * 100, "t" * 500, "done")
    lines = store.audit(3)
    assert [line.target[:4] for line in lines] == ["job3", "job4", "tttt"]
    assert len(lines[0].outcome) == 500 and len(lines[2].verb) == 40
    assert {line.user for line in store.audit(10, "bob")} == {"bob"}


def test_what_is_refused_again_and_again_is_one_line_a_minute(store: Store) -> None:
    for number in range(50):
        store.record("mallory", 5003, "stop", f"job{number}", "refused: it is alice's", {"door": "socket"})
        store.record("mallory", 5003, "hold", f"job{number}", "refused: it is alice's")
        store.record("mallory", 5003, "stop", f"no{number}", "failed: there is none")
    store.record("bob", 5002, "stop", "job1", "refused: it is alice's")
    store.record("mallory", 5003, "stop", "own", "done")
    store.record("mallory", 5003, "stop", "own", "done")
    lines = [(line.user, line.verb, line.target, line.outcome[:6], line.count) for line in store.audit()]
    assert lines == [
        ("mallory", "stop", "job0", "refuse", 50), ("mallory", "hold", "job0", "refuse", 50),
        ("mallory", "stop", "no0", "failed", 50), ("bob", "stop", "job1", "refuse", 1),
        ("mallory", "stop", "own", "done", 1), ("mallory", "stop", "own", "done", 1),
    ]  # fmt: skip


def test_the_audit_trail_forgets(store: Store) -> None:
    store.record("alice", 5001, "stop", "a", "done")
    assert store.forget_audit(1.0) == 0 and len(store.audit()) == 1
    assert store.forget_audit(0.0) == 1 and not store.audit()


def test_who_may_ask_for_which_priority(store: Store) -> None:
    cluster = Cluster("c", (Node("w", "10.0.0.2"),), Path("x"))
    for priority in (0, 50):
        users.check_priority(store, cluster, ALICE, False, priority)
    with pytest.raises(RightsError, match="alice may ask for 50 at most"):
        users.check_priority(store, cluster, ALICE, False, 51)
    users.check_priority(store, cluster, ALICE, True, 100)
    store.set_account("group", "lab", max_priority=90)
    assert users.ceiling(store, cluster, ALICE, False) == 90 and users.ceiling(store, cluster, BOB, False) == 50
    store.set_account("user", "alice", max_priority=20)
    assert users.ceiling(store, cluster, ALICE, False) == 20, "their own word counts before that of a group"
    wide = Cluster("c", cluster.nodes, Path("x"), settings=Settings(max_priority=70))
    assert users.ceiling(store, wide, BOB, False) == 70
    with pytest.raises(UsageError):
        store.set_account("user", "alice", max_priority=101)


# -- the verbs ------------------------------------------------------------------------------------------------


def ugro(tmp_path: Path, *arguments: str, code: int = 0, **more: str) -> str:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("UGRO_")}
    env = kept | {"HOME": str(tmp_path), "UGRO_DATA": str(tmp_path / "data"), **more}
    done = subprocess.run(
        [str(UGRO), *arguments], env=env, text=True, capture_output=True, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def test_users_and_usage(tmp_path: Path) -> None:
    ugro(tmp_path, "users", "set", "alice", "--gpus", "4", "--queued", "none", "--gpu-hours-week", "12.5")
    ugro(tmp_path, "users", "set", "lab", "--group", "--role", "admin", "--priority", "urgent")
    found = json.loads(ugro(tmp_path, "users", "ls", "--json"))
    assert [(entry["kind"], entry["name"], entry["role"], entry["max_gpus"]) for entry in found] == [
        ("group", "lab", "admin", None), ("user", "alice", "user", 4),
    ]  # fmt: skip
    assert "12.5" in ugro(tmp_path, "users")
    assert json.loads(ugro(tmp_path, "usage", "--json"))["users"][0]["user"] == "alice"
    shown = ugro(tmp_path, "usage", "--since", "30d")
    assert "0 of 12.5" in shown and "GROUP" in shown
    log = json.loads(ugro(tmp_path, "users", "log", "--json"))
    assert [line["target"] for line in log] == ["user alice", "group lab"]
    assert "alice" in ugro(tmp_path, "users", "log")
    assert "neither a number" in ugro(tmp_path, "users", "set", "alice", "--gpus", "many", code=2)
    assert "nothing to set" in ugro(tmp_path, "users", "set", "alice", code=2)
    assert "is no time" in ugro(tmp_path, "usage", "--since", "soon", code=2)


def test_what_is_asked_without_an_agent_is_in_the_trail(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train.py").write_text("print('x')\n")
    held = ("launch", "--script", str(tmp_path / "code" / "train.py"), "--name", "held", "--hold", "-d", "--nodes", "1")
    assert "tag 'bad!'" in ugro(tmp_path, *held, "--tag", "bad!", code=2)
    ugro(tmp_path, *held, "--tag", "good", "--tag", "lr:3e-4", "--note", "what it is for")
    assert json.loads(ugro(tmp_path, "results", "note", "held", "--json"))["text"] == "what it is for"
    assert [row["tags"] for row in json.loads(ugro(tmp_path, "results", "ls", "--json"))["experiments"]] == [
        ["good", "lr:3e-4"]
    ]
    ugro(tmp_path, *held, code=2)  # the name is taken
    ugro(tmp_path, "queue", "priority", "held", "urgent")
    ugro(tmp_path, "queue", "hold", "no-such-job", code=8)
    ugro(tmp_path, "rerun", "held", "--name", "again", "-d")
    for name in ("held", "again"):
        ugro(tmp_path, "stop", name, "--force")
    node = json.loads(ugro(tmp_path, "nodes", "ls", "--json"))["nodes"][0]["name"]
    ugro(tmp_path, "nodes", "drain", node)
    ugro(tmp_path, "nodes", "resume", node)
    found = json.loads(ugro(tmp_path, "users", "log", "--json"))
    assert [(line["verb"], line["target"], line["outcome"].partition(":")[0]) for line in found] == [
        ("submit", "held", "done"), ("priority", "held", "done"), ("hold", "no-such-job", "failed"),
        ("rerun", "held", "done"), ("stop", "held", "done"), ("stop", "again", "done"),
        ("drain", node, "done"), ("resume", node, "done"),
    ]  # fmt: skip
    assert {line["user"] for line in found} == {users.me().user}


@pytest.fixture
def ssh(tmp_path: Path) -> Path:
    """An `ssh` that runs the command here, in another home, as sshd does: through the account's shell."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / ".profile").write_text(f"PATH={UGRO.parent}:$PATH\n")
    program = folder / "ssh"
    program.write_text(
        '#!/bin/sh\nfor last; do :; done\n[ "$3" = lost@host ] && exit 255\n[ "$2" = lost@host ] && exit 255\n'
        f"unset UGRO_MASTER; cd {tmp_path}/there\n"
        f'HOME={tmp_path}/there UGRO_DATA={tmp_path}/there/data exec sh -c "$last"\n'
    )
    program.chmod(0o755)
    return folder


def test_master_runs_the_verb_there(tmp_path: Path, ssh: Path) -> None:
    path = f"{ssh}:{os.environ['PATH']}"
    assert json.loads(ugro(tmp_path, "--master", "ob@host", "ps", "--json", PATH=path)) == []
    ugro(tmp_path, "--master", "ob@host", "users", "set", "alice", "--gpus", "1", PATH=path)
    there = json.loads(ugro(tmp_path, "users", "ls", "--json", PATH=path, UGRO_MASTER="ob@host"))
    assert [entry["name"] for entry in there] == ["alice"]
    assert not (tmp_path / "data").exists(), "nothing happened here"
    strange = "a'b\"c; touch x $(touch x) `touch x`"
    assert "touch x" in ugro(tmp_path, "--master", "ob@host", "status", strange, PATH=path, code=8)
    assert not (tmp_path / "there" / "x").exists()
    assert "could not connect" in ugro(tmp_path, "--master", "lost@host", "ps", PATH=path, code=4)
    for bad in ("-oProxyCommand=x", "a@-b", "a b", "a@b;c", ""):
        if bad:
            assert "is not USER@HOST" in ugro(tmp_path, f"--master={bad}", "ps", PATH=path, code=2)


def test_master_gets_the_script_that_is_here(tmp_path: Path, ssh: Path) -> None:
    path = f"{ssh}:{os.environ['PATH']}"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train.py").write_text("print('mine')\n")
    script = str(tmp_path / "mine" / "train.py")
    words = (
        "launch",
        "--script",
        script,
        "--name",
        "sent",
        "--nodes",
        "1",
        "--dry-run",
        "--json",
        "--",
        "--script",
        "x",
    )
    plan = json.loads(ugro(tmp_path, "--master", "ob@host", *words, PATH=path))
    command = next(iter(plan["commands"].values()))[0]
    assert command[-2:] == ["--script", "x"] and "train.py" in command
    sent = list((tmp_path / "there" / ".cache" / "ugro" / "sent").glob("*/train.py"))
    assert [file.read_text() for file in sent] == ["print('mine')\n"]
    local = ("launch", "--dataset", str(tmp_path / "mine"))
    assert "is on this machine" in ugro(tmp_path, "--master", "ob@host", *local, PATH=path, code=2)
