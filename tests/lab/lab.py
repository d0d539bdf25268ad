# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A lab: hosts on a network of their own, with keys of their own.

Everything a lab needs lies in `/run/ugro-lab/<number>` (a tmpfs), on the bridge `ugrolab<number>`
and in its hosts' processes; `down` removes all three. Numbers keep labs apart, so several coexist.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.lab import cgroup, numbers, sharing
from tests.lab.able import raise_inotify, skip_reason
from tests.lab.host import Host
from tests.lab.image import USERS, Identity, write_upper
from tests.lab.numbers import BASE

MIXED = ("root", "ob", "ollie")


class Lab:
    """N hosts that are up. Make one with `Lab.up`, use it as a context manager or call `down`."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.folder = BASE / str(number)
        self.bridge = f"ugrolab{number}"
        self.hosts: list[Host] = []
        self.owner: tuple[int, str] | None = None
        self.shared = sharing.shared_paths()

    @classmethod
    def up(
        cls,
        n: int = 3,
        *,
        users: str | Sequence[str] = "root",
        ports: Mapping[int, int] | Sequence[int] = (),
        persistent: bool = False,
    ) -> Lab:
        """Boot `n` hosts named gpu-master, gpu1, gpu2, … and wait until they take SSH sessions.

        Args:
            users: the account UGRO uses: "root" everywhere, "mixed" (root, ob, ollie in turn), or a list.
            ports: SSH ports by host index, 22 where not given.
            persistent: keep the lab when this process ends; otherwise the next `up` removes its remains.

        Raises:
            RuntimeError: the lab cannot run here, or a host does not come up.
        """
        reason = skip_reason()
        if reason:
            raise RuntimeError(reason)
        names = ["root"] if users == "root" else list(MIXED) if users == "mixed" else list(users)
        port_of = dict(ports) if isinstance(ports, Mapping) else dict(enumerate(ports))
        with numbers.turn():
            _sweep()
            lab = cls(numbers.claim(lambda number: cls(number).down()))
        try:
            if not persistent:
                lab.owner = numbers.me()
            lab._create(n, names, port_of)
            for host in lab.hosts:
                host.boot(wait=False)
            lab.save()
            for host in lab.hosts:
                host.wait_until_up()
        except BaseException:
            lab.down()
            raise
        return lab

    @classmethod
    def load(cls, number: int) -> Lab:
        """Return the lab of that number that another process booted.

        Raises:
            FileNotFoundError: there is no such lab.
        """
        lab = cls(number)
        state = json.loads((lab.folder / "state.json").read_text())
        lab.owner = tuple(state["owner"]) if state["owner"] else None
        lab.hosts = [Host(lab=lab, **host) for host in state["hosts"]]
        return lab

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *exception: object) -> None:
        self.down()

    def host(self, name: str) -> Host:
        """Return the host of that name."""
        return next(host for host in self.hosts if host.name == name)

    @property
    def subnet(self) -> str:
        return f"10.213.{self.number}"

    @property
    def address(self) -> str:
        """The controller's (this machine's) address on the lab's network."""
        return f"{self.subnet}.1"

    @property
    def key(self) -> Path:
        """The private key that opens every host."""
        return self.folder / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """The hosts' keys; SSH refuses a host that shows another."""
        return self.folder / "known_hosts"

    @property
    def ssh_args(self) -> str:
        """The value of `ansible_ssh_common_args`: only the lab's keys, never the user's `~/.ssh`."""
        return (
            f"-o UserKnownHostsFile={self.known_hosts} -o GlobalKnownHostsFile=/dev/null "
            "-o StrictHostKeyChecking=yes -o IdentitiesOnly=yes -o IdentityAgent=none"
        )

    @property
    def ssh_options(self) -> list[str]:
        return ["-F", "/dev/null", "-i", str(self.key), "-o", "BatchMode=yes", *self.ssh_args.split()]

    def inventory(
        self,
        *,
        slots: int | Mapping[str, int] = 1,
        hosts: Sequence[str] | None = None,
        training: Mapping[str, Any] | None = None,
        **host_vars: Any,
    ) -> dict[str, Any]:
        """Return an inventory of the lab in UGRO's form.

        Args:
            slots: CPU slots of each node, or by node name.
            hosts: only these nodes; the first is the master.
            training: the cluster's `ugro_training`.
            host_vars: further variables given to every host.
        """
        nodes: dict[str, Any] = {}
        for host in self.hosts:
            if hosts is not None and host.name not in hosts:
                continue
            nodes[host.name] = {
                "ansible_host": host.address,
                "ansible_user": host.user,
                "ansible_port": host.port,
                "ansible_connection": "ssh",
                "ansible_python_interpreter": "/usr/bin/python3",
                "ansible_ssh_private_key_file": str(self.key),
                "ansible_ssh_common_args": self.ssh_args,
                "ugro_role": "worker" if nodes else "master",
                "ugro_slots": slots if isinstance(slots, int) else slots.get(host.name, 1),
                "ugro_python": sys.executable,
                **host_vars,
            }
        variables: dict[str, Any] = {"ugro_cluster_name": f"lab{self.number}", "ugro_master_port": 29500}
        if training is not None:
            variables["ugro_training"] = dict(training)
        return {"all": {"vars": variables, "children": {"ugro_nodes": {"hosts": nodes}}}}

    def inventory_file(self, name: str = "hosts.yml", **options: Any) -> Path:
        """Write `inventory(**options)` as `name` in the lab's folder and return the path."""
        path = self.folder / "inventory" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(self.inventory(**options), sort_keys=False))
        return path

    def save(self) -> None:
        """Write down what exists, for other processes and for cleaning up after a crash."""
        fields = ("index", "name", "address", "user", "port", "host_key", "pid", "leader")
        hosts = [{key: getattr(host, key) for key in fields} for host in self.hosts]
        temporary = self.folder / "state.json.new"
        temporary.write_text(json.dumps({"owner": self.owner, "hosts": hosts}))
        temporary.replace(self.folder / "state.json")

    def down(self) -> None:
        """Switch everything off and remove every trace: processes, links, mounts, files."""
        for host in self.hosts:
            with contextlib.suppress(OSError, subprocess.CalledProcessError):
                subprocess.run([*host.ssh_command("-O", "exit")], capture_output=True, timeout=5, check=False)
                host.power_off()
            cgroup.remove(host.machine)
        subprocess.run(["ip", "link", "del", self.bridge], capture_output=True, check=False)
        if self.folder.is_mount():
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)
        if self.folder.exists():
            self.folder.rmdir()
        with contextlib.suppress(OSError):
            BASE.rmdir()  # only when it was the last lab
        self.hosts = []

    def _create(self, n: int, users: Sequence[str], ports: Mapping[int, int]) -> None:
        """Make keys, network and the hosts' disks."""
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755,size=60%", "ugro-lab", str(self.folder)], check=True)
        self.save()
        (self.folder / "cm").mkdir(mode=0o700)
        Path("/run/systemd/nspawn").mkdir(parents=True, exist_ok=True)
        raise_inotify(n + sum(len(lab.hosts) for lab in labs()))
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ugro-lab", "-f", str(self.key)], check=True
        )
        network = (
            f"link add {self.bridge} type bridge\n"
            f"addr add {self.address}/24 dev {self.bridge}\n"
            f"link set {self.bridge} up\n"
        )
        subprocess.run(["ip", "-batch", "-"], input=network, text=True, check=True, capture_output=True)
        for index in range(n):
            user = users[index % len(users)]
            if user != "root" and user not in USERS:
                raise RuntimeError(f"no account {user!r} on lab hosts; there are root, {', '.join(USERS)}")
            name = f"gpu{index}" if index else "gpu-master"
            self.hosts.append(Host(self, index, name, f"{self.subnet}.{10 + index}", user, ports.get(index, 22)))
        lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost", f"{self.address} controller"]
        lines += [f"{host.address} {host.name}" for host in self.hosts]
        hosts_file = "\n".join(lines) + "\n"
        public_key = self.key.with_suffix(".pub").read_text().strip()
        known = []
        for host in self.hosts:
            (host.folder / "upper").mkdir(parents=True)
            identity = Identity(host.name, host.address, host.port, self.number)
            host.host_key = write_upper(
                host.folder / "upper", identity, hosts_file, public_key, sharing.ways(self.shared)
            )
            shown = host.address if host.port == 22 else f"[{host.address}]:{host.port}"
            known.append(f"{shown} {host.host_key}\n")
        self.known_hosts.write_text("".join(known))


def labs() -> list[Lab]:
    """Return the labs that exist on this machine."""
    found = []
    for entry in sorted(BASE.glob("*/state.json"), key=lambda path: int(path.parent.name)):
        with contextlib.suppress(FileNotFoundError):
            found.append(Lab.load(int(entry.parent.name)))
    return found


def sweep() -> list[int]:
    """Remove the labs whose owner has ended without doing so; return their numbers."""
    with numbers.turn():
        return _sweep()


def _sweep() -> list[int]:
    removed = []
    for lab in labs():
        if lab.owner is not None and not numbers.lives(lab.owner):
            lab.down()
            removed.append(lab.number)
    return removed
