# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""`ugro --master user@host VERB` over real SSH, to a host with an agent and two accounts."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.support import PLAY, UGRO, finish, interrupt, wait_until
from tests.lab import Lab

pytestmark = pytest.mark.lab
UNIT = "ugro-test-agent"
SCRIPT = ("launch", "--script", str(PLAY), "--name")


class Laptop:
    """This machine, from which two people work on the master."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.host, self.folder = lab, lab.host("gpu-master"), folder
        self._on_the_master()
        bin_ = folder / "bin"
        bin_.mkdir()
        # People have this in ~/.ssh/config, which ssh takes from the account, not from $HOME.
        (bin_ / "ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh {" ".join(lab.ssh_options)} "$@"\n')
        (bin_ / "ssh").chmod(0o755)
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("UGRO_", "ANSIBLE_"))}
        self.env = kept | {"HOME": str(folder), "PATH": f"{bin_}:{os.environ['PATH']}"}

    def _on_the_master(self) -> None:
        host = self.host
        inventory = self.lab.inventory(hosts=["gpu-master"], slots=2)
        node = inventory["all"]["children"]["ugro_nodes"]["hosts"]["gpu-master"]
        inventory["all"]["vars"]["ugro_accounts"] = {"ob": "ob", "ollie": "ollie"}
        place = host.path("/root/master")
        place.mkdir(exist_ok=True)
        for key, path in (("key", self.lab.key), ("known_hosts", self.lab.known_hosts)):
            (place / key).write_bytes(path.read_bytes())
            (place / key).chmod(0o600)
        node["ansible_ssh_private_key_file"] = "/root/master/key"
        node["ansible_ssh_common_args"] = self.lab.ssh_args.replace(
            str(self.lab.known_hosts), "/root/master/known_hosts"
        )
        (place / "hosts.yml").write_text(yaml.safe_dump(inventory))
        for home in ("/home/ob", "/home/ollie"):
            host.path(f"{home}/.profile").write_text(f"PATH={UGRO.parent}:$PATH\n")
        host.enter(
            [
                "systemd-run", f"--unit={UNIT}", "-p", "RuntimeDirectory=ugro", "-p", "RuntimeDirectoryMode=0755",
                "--setenv=HOME=/root", "--setenv=UGRO_DATA=/root/master/data",
                "--setenv=UGRO_AGENT=/run/ugro/agent.sock", str(UGRO), "-i", "/root/master/hosts.yml", "agent",
            ]
        )  # fmt: skip
        wait_until(host.path("/run/ugro/agent.sock").exists, "the agent listens", 90)

    def start(self, user: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        command = [str(UGRO), "--master", f"{user}@{self.host.address}", *arguments]
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            command, env=self.env, cwd=self.folder, text=True, start_new_session=True, **(streams | options)
        )

    def run(self, user: str, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        return finish(self.start(user, *arguments), code)

    def job(self, name: str) -> dict[str, Any]:
        return dict(json.loads(self.run("ob", "status", name, "--json").stdout))

    def close(self) -> None:
        self.host.enter(["systemctl", "stop", UNIT], check=False)
        self.host.enter(["rm", "-rf", "/root/master"], check=False)


@pytest.fixture(scope="module")
def laptop(lab3: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    made = Laptop(lab3, tmp_path_factory.mktemp("laptop"))
    try:
        yield made
    finally:
        made.close()


def test_jobs_belong_to_who_logs_in(laptop: Laptop) -> None:
    assert json.loads(laptop.run("ob", "ps", "--json").stdout) == []
    laptop.run("ob", *SCRIPT, "hers", "--gpus", "1", "-d", "--", "wait")
    shown = json.loads(laptop.run("ollie", "ps", "--json").stdout)
    assert [(line["job"], line["user"]) for line in shown] == [("hers", "ob")]
    refused = laptop.run("ollie", "stop", "hers", "--force", code=11)
    assert "it is ob's, you are ollie" in refused.stderr
    assert laptop.job("hers")["status"] in ("pending", "starting", "running")
    assert "stopped" in laptop.run("ob", "stop", "hers", "--force").stdout
    assert laptop.job("hers")["status"] == "stopped"


def test_exit_codes_come_through(laptop: Laptop) -> None:
    laptop.run("ob", "status", "no_such_job", code=8)
    laptop.run("ob", "launch", "--no-such-option", code=2)
    failed = laptop.run("ob", *SCRIPT, "fails", "--gpus", "1", "--", "fail", "0", code=7)
    assert "has had enough" in failed.stderr + failed.stdout


@pytest.mark.parametrize("terminal", [False, True])
def test_ctrl_c_detaches(laptop: Laptop, terminal: bool) -> None:
    name = f"left_{terminal}".lower()
    words = (*SCRIPT, name, "--gpus", "1", "--", "wait")
    if terminal:
        ours, theirs = pty.openpty()
        process = laptop.start("ob", *words, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        reader = subprocess.Popen(
            [sys.executable, "-c", "import os, sys\nwhile os.read(0, 4096): pass"], stdin=ours,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
    else:
        process = laptop.start("ob", *words)
    try:
        wait_until(lambda: f'"{name}"' in laptop.run("ollie", "ps", "--json").stdout, "it is with the agent")
        if terminal:
            os.write(ours, b"\x03")
        else:
            interrupt(process)
        assert process.wait(60) == 0
        if not terminal:
            assert f"detached; job {name} goes on" in process.communicate()[1]
        assert laptop.job(name)["status"] in ("pending", "starting", "running")
    finally:
        if terminal:
            os.close(ours)
            reader.kill()
            reader.wait()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    laptop.run("ob", "stop", name, "--force")
