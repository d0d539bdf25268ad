# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Two users of one agent, one of them hostile: whose jobs, whose files, whose quota."""

from __future__ import annotations

import json
import pwd
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.integration.support import wait_until
from tests.integration.two_users import ALICE, BECOME, MALLORY, Master, needs_accounts, submit

pytestmark = needs_accounts
pytest_plugins = ["tests.integration.two_users"]


def outcomes(master: Master, user: str) -> list[tuple[str, str, str]]:
    with master.store() as store:
        return [(row.verb, row.target, row.outcome.split(":")[0]) for row in store.audit(1000, user)]


def test_a_user_is_who_the_kernel_says(master: Master) -> None:
    forged = {"X-Remote-User": "root", "Authorization": "Bearer root", "X-Forwarded-For": "127.0.0.1"}
    status, me = master.ask(MALLORY, "GET", "/v1/me", headers=forged)
    assert (status, me["user"], me["uid"], me["admin"]) == (200, MALLORY, pwd.getpwnam(MALLORY).pw_uid, False)


@pytest.mark.parametrize("verb", ["stop", "hold", "release", "priority", "move", "cancel"])
def test_a_job_of_somebody_else_stays_as_it_is(master: Master, job: str, verb: str) -> None:
    body = {"priority": {"priority": 100}, "move": {"to": "first"}, "stop": {"force": True}}.get(verb)
    with master.store() as store:
        wait_until(lambda: store.job(job).reason, "the agent said what it waits for")
        before = store.job(job)
    status, answer = master.ask(MALLORY, "POST", f"/v1/jobs/{job}/{verb}", body)
    assert (status, answer["error"]["exit_code"]) == (403, 11), answer
    with master.store() as store:
        assert store.job(job) == before
    assert (verb, job, "refused") in outcomes(master, MALLORY)


def test_forged_environment_changes_nothing(master: Master, job: str) -> None:
    entry = pwd.getpwnam(MALLORY)
    forged = {
        "USER": "root",
        "LOGNAME": "root",
        "SUDO_USER": "root",
        "UGRO_USER": ALICE,
        "UGRO_AGENT": str(master.socket),
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        words = json.dumps([entry.pw_uid, entry.pw_gid, forged, arguments])
        return subprocess.run(
            [sys.executable, "-c", BECOME, words], env=master.env, text=True, capture_output=True, check=False
        )

    done = run("stop", job, "--force")
    assert done.returncode == 11, done.stdout + done.stderr
    assert f"it is {ALICE}'s, you are {MALLORY}" in done.stderr
    shown = run("ps", "--json")
    assert job in [line["job"] for line in json.loads(shown.stdout)], "reading is shared"


def test_only_admins_change_quotas_nodes_and_read_the_trail(master: Master) -> None:
    for method, url, body in (
        ("PUT", f"/v1/users/{MALLORY}", {"role": "admin"}),
        ("PUT", f"/v1/groups/{MALLORY}", {"role": "admin"}),
        ("POST", "/v1/nodes/here/drain", {}),
        ("POST", "/v1/nodes/here/resume", {}),
        ("GET", "/v1/audit", None),
    ):
        status, answer = master.ask(MALLORY, method, url, body)
        assert (status, answer["error"]["exit_code"]) == (403, 11), (url, answer)
    assert master.ask(MALLORY, "GET", "/v1/me")[1]["admin"] is False


def test_the_owner_may(master: Master) -> None:
    assert submit(master, ALICE, "hers")[0] == 200
    assert master.ask(ALICE, "POST", "/v1/jobs/hers/priority", {"priority": 10})[0] == 200
    status, answer = master.ask(ALICE, "POST", "/v1/jobs/hers/stop")
    assert status == 200, answer
    with master.store() as store:
        assert store.job("hers").user == ALICE
        wait_until(lambda: store.job("hers").status == "stopped", "the job has ended")
    assert ("stop", "hers", "done") in outcomes(master, ALICE)


def test_a_job_never_runs_as_the_agent_itself(master: Master) -> None:
    status, answer = submit(master, MALLORY, "asroot")
    assert status == 403 and "agent's own account" in answer["error"]["came_back"]


def test_a_request_cannot_name_its_user_or_files_of_the_agent(master: Master) -> None:
    for request in (
        {"user": "root"},
        {"dataset": "/etc"},
        {"dataset": "etc"},
        {"dataset": "../etc/passwd"},
        {"dataset": "~/.ssh"},
        {"model": "/root"},
        {"resume": "/etc/shadow"},
        {"resume": "../../etc"},
        {"script": "/etc/passwd", "workdir": "/etc"},
        {"script": "x.py"},
        {"name": "../../evil"},
        {"name": "$(id)"},
        {"name": "{{lookup('pipe','id')}}"},
        {"epochs": "many"},
        {"env": {"UGRO_TOKEN": "x"}},
        {"args": "one text"},
    ):
        values = {"name": "bad", **request}
        status, answer = master.ask(ALICE, "POST", "/v1/jobs", {"request": values})
        assert status in (400, 404) and "error" in answer, (request, status, answer)
    with master.store() as store:
        assert not [row.name for row in store.jobs() if row.name == "bad"]


def test_parallel_submissions_do_not_pass_a_quota(master: Master) -> None:
    with master.store() as store:
        queued = sum(row.user == ALICE for row in store.jobs(active=True))
        store.set_account("user", ALICE, max_queued=queued + 3)
    try:
        asked = {"request": {"hold": True}}
        answers = master.ask(ALICE, "POST", "/v1/jobs", asked, times=24)
        assert sorted(status for status, _ in answers) == [200] * 3 + [403] * 21, answers
        with master.store() as store:
            assert sum(row.user == ALICE for row in store.jobs(active=True)) == queued + 3
        assert ("submit", "", "refused") in outcomes(master, ALICE)
    finally:
        with master.store() as store:
            store.set_account("user", ALICE, max_queued=None)


@pytest.fixture
def drained(master: Master) -> Iterator[None]:
    """Nothing starts meanwhile."""
    assert master.ask("root", "POST", "/v1/nodes/here/drain", {})[0] == 200
    yield
    assert master.ask("root", "POST", "/v1/nodes/here/resume", {})[0] == 200


def test_priorities_have_a_ceiling(master: Master, drained: None) -> None:
    status, answer = submit(master, ALICE, "tooclever", priority=100)
    assert status == 403 and f"{ALICE} may ask for 50 at most" in answer["error"]["came_back"], answer
    assert submit(master, ALICE, "modest", priority=50)[0] == 200
    assert master.ask(ALICE, "POST", "/v1/jobs/modest/priority", {"priority": 51})[0] == 403
    with master.store() as store:
        store.set_priority("modest", 90, "root")  # an admin's favour
        store.cancel("modest", "root")
    assert master.ask(ALICE, "POST", "/v1/jobs/modest/resume")[0] == 200
    assert master.ask(ALICE, "POST", "/v1/jobs/modest/hold")[0] == 200
    with master.store() as store:
        assert store.job("modest").priority == 50, "once it has ended, that is over"
        store.cancel("modest", "root")
        store.set_account("user", ALICE, max_priority=100)
    try:
        assert submit(master, ALICE, "allowed", priority=100)[0] == 200
        assert master.ask(ALICE, "POST", "/v1/jobs/allowed/cancel")[0] == 200
    finally:
        with master.store() as store:
            store.set_account("user", ALICE, max_priority=None)


def test_resumes_and_reruns_pass_neither_a_quota_nor_a_hold(master: Master, drained: None) -> None:
    names = [f"again{number}" for number in range(6)]
    for name in names:
        assert submit(master, ALICE, name)[0] == 200
    with master.store() as store:
        for name in names[1:]:
            store.cancel(name, ALICE)
        assert store.hold(names[0], "root", admin=True), "an admin's hold is one where the owner held it before"
        queued = sum(row.user == ALICE for row in store.jobs(active=True))
        store.set_account("user", ALICE, max_queued=queued + 2)
    try:
        assert master.ask(ALICE, "POST", f"/v1/jobs/{names[0]}/release")[0] == 403
        assert [master.ask(ALICE, "POST", f"/v1/jobs/{name}/resume")[0] for name in names[1:]] == [200] * 2 + [403] * 3
        assert master.ask(ALICE, "POST", f"/v1/jobs/{names[5]}/rerun", {"name": "more"})[0] == 403
        with master.store() as store:
            assert sum(row.user == ALICE for row in store.jobs(active=True)) == queued + 2
            store.set_account("user", ALICE, max_queued=None)
        # Neither a rerun, nor an end and a resume, ends the hold.
        assert master.ask(ALICE, "POST", f"/v1/jobs/{names[0]}/rerun", {"name": "copy"})[0] == 200
        assert master.ask(ALICE, "POST", "/v1/jobs/copy/release")[0] == 403
        assert master.ask(ALICE, "POST", f"/v1/jobs/{names[0]}/stop")[0] == 200
        with master.store() as store:
            wait_until(lambda: store.job(names[0]).status == "stopped", "it has ended")
        assert master.ask(ALICE, "POST", f"/v1/jobs/{names[0]}/resume")[0] == 200
        with master.store() as store:
            assert [store.job(name).held_by for name in (names[0], "copy")] == ["root", "root"]
    finally:
        with master.store() as store:
            store.set_account("user", ALICE, max_queued=None)
        for name in (*names[:3], "copy"):
            master.ask(ALICE, "POST", f"/v1/jobs/{name}/stop", {"force": True})


def test_a_flood_of_refused_requests_is_one_line(master: Master, job: str) -> None:
    with master.store() as store:
        before = len(store.audit(10_000, MALLORY))
    answers = master.ask(MALLORY, "POST", f"/v1/jobs/{job}/stop", times=60)
    assert {status for status, _ in answers} == {403}
    with master.store() as store:
        lines = store.audit(10_000, MALLORY)
    assert len(lines) <= before + 2 and sum(line.count for line in lines if line.verb == "stop") >= 60


def test_files_of_the_store_are_closed_to_others(master: Master, job: str) -> None:
    for path in (master.data / "ugro.db", master.data / "jobs" / job, master.data):
        for command in (["cat"], ["ls"], ["touch"], ["rm", "-rf"]):
            done = master.as_user(MALLORY, [*command, str(path)])
            assert done.returncode != 0 or (command[0] == "ls" and not done.stdout), (command, path)
    assert (master.data / "ugro.db").exists()
