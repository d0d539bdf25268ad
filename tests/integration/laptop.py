# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A laptop from which two people work on a master over real SSH; the master is a host of the lab with an agent."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.support import PLAY, UGRO, finish, wait_until
from tests.lab import Lab

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
                # Hosts of the lab give a unit 5 s to end; one that failed would be in the way of the next of this name.
                "systemd-run", "--collect", "-p", "TimeoutStopSec=60", f"--unit={UNIT}",
                "-p", "RuntimeDirectory=ugro", "-p", "RuntimeDirectoryMode=0755",
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
