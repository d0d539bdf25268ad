# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Two users of one agent, one of them hostile: direct calls to its socket, forged environment, links, floods."""

from __future__ import annotations

import http.client
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.integration.support import UGRO, wait_until
from ugro_py.state import Store

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or shutil.which("useradd") is None,
    reason="needs root and useradd, to make two accounts",
)
ALICE, MALLORY = f"ualice{os.getpid()}", f"umallory{os.getpid()}"

# Runs as another account, with nothing but the standard library.
ASK = """
import json, socket, sys, http.client
path, method, url, body, headers, times = json.loads(sys.argv[1])
def ask():
    connection = http.client.HTTPConnection("localhost", timeout=30)
    connection.sock = socket.socket(socket.AF_UNIX); connection.sock.settimeout(30); connection.sock.connect(path)
    connection.request(method, url, body, headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode(errors="replace")
if times > 1:
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: ask(), range(times)))
else:
    found = [ask()]
print(json.dumps(found))
"""

# `ugro` as another account, where that one may not read the Python it runs on: everything is imported before.
BECOME = """
import contextlib, io, json, os, sys
from ugro_py.cli import main
uid, gid, environment, arguments = json.loads(sys.argv[1])
for words in (["ps"], ["stop", "no-such-job"]):
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        with contextlib.redirect_stderr(io.StringIO()):
            main(words)
os.setgroups([]); os.setgid(gid); os.setuid(uid)
os.environ.clear(); os.environ.update(environment)
main(arguments)
"""


class Master:
    """A master with its agent, and what two accounts can do to it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data, self.socket = folder, folder / "data", folder / "run" / "agent.sock"
        inventory = folder / "hosts.yml"
        inventory.write_text(
            f"ugro_nodes:\n  vars:\n    ugro_accounts:\n      {ALICE}: {ALICE}\n"
            "  hosts:\n    here: {ansible_connection: local, ansible_host: 127.0.0.1, ugro_role: master}\n"
        )
        (folder / "run").mkdir(mode=0o755)
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("UGRO_", "ANSIBLE_"))}
        self.env = kept | {"HOME": str(folder / "home"), "UGRO_DATA": str(self.data), "UGRO_AGENT": str(self.socket)}
        (folder / "home").mkdir(mode=0o700)
        self.agent = subprocess.Popen(
            [str(UGRO), "-i", str(inventory), "agent"], env=self.env, stdin=subprocess.DEVNULL,
            stdout=(folder / "agent.log").open("w"), stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        wait_until(lambda: self.socket.exists() or self.agent.poll() is not None, "the agent listens", 60)
        assert self.agent.poll() is None, (folder / "agent.log").read_text()

    def as_user(self, user: str, command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        entry = pwd.getpwnam(user)
        return subprocess.run(
            command, user=entry.pw_uid, group=entry.pw_gid, extra_groups=[], cwd="/", text=True, capture_output=True,
            timeout=100, check=False, **options,
        )  # fmt: skip

    def ask(
        self, user: str, method: str, url: str, body: Any = None, headers: dict[str, str] | None = None, times: int = 1
    ) -> Any:
        """Return (status, JSON or text) of a request that `user` makes; with `times` a list of them."""
        sent = {"Content-Type": "application/json", **(headers or {})}
        text = body if isinstance(body, str | None) else json.dumps(body)
        words = json.dumps([str(self.socket), method, url, text, sent, times])
        python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
        done = self.as_user(user, [python, "-I", "-c", ASK, words], env={"PATH": "/usr/bin:/bin"})
        assert done.returncode == 0, done.stderr
        found = []
        for status, answer in json.loads(done.stdout):
            with suppress(ValueError):
                answer = json.loads(answer)
            found.append((status, answer))
        return found if times > 1 else found[0]

    def store(self) -> Store:
        return Store.open(f"sqlite:///{self.data}/ugro.db")

    def close(self) -> None:
        self.agent.send_signal(signal.SIGTERM)
        try:
            self.agent.wait(20)
        except subprocess.TimeoutExpired:
            self.agent.kill()
            self.agent.wait()


@pytest.fixture(scope="module")
def accounts() -> Iterator[None]:
    made = []
    try:
        for user in (ALICE, MALLORY):
            subprocess.run(["useradd", "--no-create-home", "--shell", "/bin/sh", user], check=True, capture_output=True)
            made.append(user)
        yield
    finally:
        for user in made:
            subprocess.run(["userdel", user], check=False, capture_output=True)


@pytest.fixture(scope="module")
def master(accounts: None) -> Iterator[Master]:
    folder = Path(tempfile.mkdtemp(prefix="ugro-users-"))
    folder.chmod(0o755)
    made = Master(folder)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(folder)


def submit(master: Master, user: str, name: str, **request: Any) -> Any:
    return master.ask(user, "POST", "/v1/jobs", {"request": {"name": name, "hold": True, **request}})


@pytest.fixture(scope="module")
def job(master: Master) -> str:
    """A job of alice that waits."""
    status, answer = submit(master, ALICE, "alices")
    assert status == 200, answer
    return "alices"


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
        wait_until(lambda: store.job(job).reason, "the agent said what it waits for", 20)
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
        wait_until(lambda: store.job("hers").status == "stopped", "the job has ended", 20)
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


def test_files_of_the_store_are_closed_to_others(master: Master, job: str) -> None:
    for path in (master.data / "ugro.db", master.data / "jobs" / job, master.data):
        for command in (["cat"], ["ls"], ["touch"], ["rm", "-rf"]):
            done = master.as_user(MALLORY, [*command, str(path)])
            assert done.returncode != 0 or (command[0] == "ls" and not done.stdout), (command, path)
    assert (master.data / "ugro.db").exists()


def test_links_in_a_job_are_never_followed(master: Master, job: str) -> None:
    root = master.data / "jobs" / job
    (root / "checkpoints").mkdir(exist_ok=True)
    (root / "logs").mkdir(exist_ok=True)
    (root / "checkpoints" / "shadow").symlink_to("/etc/shadow")
    (root / "checkpoints" / "etc").symlink_to("/etc")
    os.mkfifo(root / "checkpoints" / "pipe")
    (root / "checkpoints" / "real.pt").write_bytes(b"weights")
    listed = {entry["path"] for entry in master.ask(MALLORY, "GET", f"/v1/jobs/{job}/files")[1]}
    assert "checkpoints/real.pt" in listed
    assert not listed & {"checkpoints/shadow", "checkpoints/etc/passwd", "checkpoints/pipe"}
    assert master.ask(MALLORY, "GET", f"/v1/jobs/{job}/files/checkpoints/real.pt") == (200, "weights")
    for name in (
        "checkpoints/shadow", "checkpoints/etc/passwd", "checkpoints/pipe", "checkpoints",
        "checkpoints/../../../ugro.db",
        "..%2f..%2fugro.db", "%2e%2e/%2e%2e/ugro.db", "/etc/passwd", "checkpoints/%00",
        "spool/manifest.json", "cluster.json",
    ):  # fmt: skip
        status, answer = master.ask(MALLORY, "GET", f"/v1/jobs/{job}/files/{name}")
        assert status == 404, (name, answer)


def test_hosts_origins_and_huge_bodies_are_refused(master: Master) -> None:
    for method in ("GET", "POST", "HEAD", "OPTIONS", "PUT"):
        assert master.ask(MALLORY, method, "/v1/me", headers={"Host": "evil.example"})[0] == 421
        assert master.ask(MALLORY, method, "/v1/me", headers={"Origin": "http://evil.example"})[0] == 403
    assert master.ask(MALLORY, "POST", "/v1/jobs", None, {"Content-Length": str(10 << 30)})[0] == 413
    tar = {"Content-Type": "application/x-tar", "Content-Length": str(10 << 30)}
    assert master.ask(MALLORY, "POST", "/v1/uploads", None, tar)[0] == 413


def test_an_upload_belongs_to_who_sent_it(master: Master, tmp_path: Path) -> None:
    import io
    import tarfile

    def tar(*members: tuple[str, bytes | str]) -> bytes:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for name, content in members:
                info = tarfile.TarInfo(name)
                if isinstance(content, str):
                    info.type, info.linkname = tarfile.SYMTYPE, content
                    archive.addfile(info)
                else:
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
            end = tarfile.TarInfo("end")
            end.type = tarfile.DIRTYPE
            archive.addfile(end)
        return stream.getvalue()

    from ugro_py.api import client
    from ugro_py.errors import UgroError

    mine = client.Client(master.socket)
    for bad in (tar(("code/x", "/etc/shadow")), tar(("../../x", b"")), tar(("code/a", "b"), ("code/a/c", b""))):
        with pytest.raises(UgroError):
            mine.upload(io.BytesIO(bad), len(bad))
    good = tar(("code/train.py", b"print(1)\n"))
    name = mine.upload(io.BytesIO(good), len(good))
    request = {"name": "stolen", "script": "train.py", "hold": True}
    status, answer = master.ask(ALICE, "POST", "/v1/jobs", {"request": request, "upload": name})
    assert status == 404, answer
    assert mine.submit({**request, "name": "mine"}, name)["status"] == "pending"
    assert (master.data / "jobs" / "mine" / "spool" / "code" / "train.py").read_bytes() == b"print(1)\n"


def test_readers_that_do_not_read_and_callers_that_do_not_ask_stop_nobody(master: Master) -> None:
    held = []
    try:
        for number in range(60):
            connection = socket.socket(socket.AF_UNIX)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            connection.connect(str(master.socket))
            held.append(connection)
            with suppress(BrokenPipeError, ConnectionResetError):
                if number % 2:
                    connection.sendall(b"GET /v1/events/stream?after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
                else:
                    connection.sendall(b"GET /v1/events")
        # Events for the readers to leave unread.
        with master.store() as store:
            for number in range(400):
                store.add_event("noise", f"{number} " + "x" * 2000)
        worst = 0.0
        for _ in range(20):
            begin = time.monotonic()
            assert master.ask(ALICE, "GET", "/v1/jobs")[0] == 200
            worst = max(worst, time.monotonic() - begin)
        assert worst < 5.0
        # Who came too often was hung up on.
        closed = 0
        for connection in held:
            connection.settimeout(0.2)
            with suppress(TimeoutError):
                try:
                    closed += connection.recv(1) == b""
                except ConnectionResetError:
                    closed += 1
        assert closed >= 10
    finally:
        for connection in held:
            connection.close()
    assert master.agent.poll() is None


def test_events_go_on_where_a_reader_was_cut_off(master: Master) -> None:
    from ugro_py.api import client

    mine = client.Client(master.socket)
    with master.store() as store:
        store.add_event("first", "one")
        after = store.newest_event()
    seen: list[str] = []

    def read() -> None:
        for event in mine.events(after=after):
            seen.append(event["data"]["kind"])
            if event["data"]["kind"] == "third":
                return

    reader = threading.Thread(target=read)
    reader.start()
    with master.store() as store:
        store.add_event("second", "two")
        time.sleep(0.5)
        store.add_event("third", "three")
    reader.join(20)
    wanted = [kind for kind in seen if kind in ("first", "second", "third")]
    assert wanted == ["second", "third"]


def test_figures_for_prometheus(master: Master) -> None:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)  # type: ignore[assignment]
    connection.sock.connect(str(master.socket))
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    assert 'ugro_jobs{status="pending"}' in text
    assert 'ugro_agent_round_seconds_count{loop="schedule"}' in text
    resident = next(float(line.split()[1]) for line in text.splitlines() if line.startswith("process_resident_memory"))
    assert resident < 150e6
