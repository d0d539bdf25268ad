# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A master with its agent and two accounts of its own: what the tests of several users share."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.integration.support import MASTER_PORT, UGRO, wait_until
from ugro_py.state import Store

needs_accounts = pytest.mark.skipif(
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
    content = open(body[1:], "rb").read() if body and body.startswith("@") else body
    connection.request(method, url, content, headers)
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
    """A master with its agent, and what two accounts can do to it; its one node is itself, or as `inventory` says."""

    def __init__(self, folder: Path, inventory: Path | None = None) -> None:
        self.folder, self.data, self.socket = folder, folder / "data", folder / "run" / "agent.sock"
        if inventory is None:
            inventory = folder / "hosts.yml"
            inventory.write_text(
                f"ugro_nodes:\n  vars:\n    ugro_master_port: {MASTER_PORT}\n"
                f"    ugro_accounts:\n      {ALICE}: {ALICE}\n"
                "  hosts:\n    here: {ansible_connection: local, ansible_host: 127.0.0.1, ugro_role: master, "
                f"ugro_python: {sys.executable}}}\n"
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

    def upload(self, user: str, folder: Path, name: str = "script") -> str:
        """Send a folder as the code of a job of `user`; returns what its submission names."""
        archive = self.folder / f"{name}.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(folder, "code", recursive=False)
            for path in sorted(folder.iterdir()):
                tar.add(path, f"code/{path.name}")
            end = tarfile.TarInfo("end")
            end.type = tarfile.DIRTYPE
            tar.addfile(end)
        archive.chmod(0o644)
        status, answer = self.ask(user, "POST", "/v1/uploads", f"@{archive}", {"Content-Type": "application/x-tar"})
        assert status == 200, answer
        return str(answer["upload"])

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
