# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""One host of the lab: a full systemd machine in `systemd-nspawn`, with a plug and a cable to pull."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab import cgroup
from tests.lab import processes as proc

if TYPE_CHECKING:
    from tests.lab.lab import Lab

BOOT_TIMEOUT = 60.0
"""Seconds a host may take until its sshd answers; it takes about one."""

# Runs in a mount namespace of its own, so that no mount is ever left behind: they end with the host.
# The tmpfs folders of other labs are dropped there, or this host would keep them alive.
_BOOT = """
dir=$1; shift
for other in "${dir%/*/*}"/*; do
  if [ "$other" != "${dir%/*}" ] && mountpoint -q "$other"; then umount -l "$other"; fi
done
mount -t tmpfs -o mode=755 tmpfs /run/systemd/nspawn
mount -t overlay -o "lowerdir=/,upperdir=$dir/upper,workdir=$dir/work" overlay "$dir/root"
exec systemd-nspawn --directory="$dir/root" "$@"
"""

# Moves into cgroups and becomes the command after `--`.
_ENTER = 'while [ "$1" != -- ]; do echo $$ >"$1"; shift; done; shift; exec "$@"'


@dataclass
class Host:
    """A host of a lab. Create hosts with `Lab.up`; a host that is off can be booted again."""

    lab: Lab = field(repr=False)
    index: int
    name: str
    address: str
    user: str
    port: int
    host_key: str = field(repr=False, default="")
    pid: int = 0
    """The nspawn process on this machine; 0 when the host is off."""
    leader: int = 0
    """The host's init (its PID 1), as a process of this machine."""
    _process: subprocess.Popen[bytes] | None = field(repr=False, default=None)

    @property
    def machine(self) -> str:
        return f"ul{self.lab.number}-{self.index}"

    @property
    def link(self) -> str:
        """The machine's end of the host's cable (the other end is `host0` in the host)."""
        return f"vb-{self.machine}"

    @property
    def folder(self) -> Path:
        return self.lab.folder / self.name

    @property
    def home(self) -> str:
        """The home of the account UGRO uses on the host."""
        return "/root" if self.user == "root" else f"/home/{self.user}"

    def path(self, inside: str) -> Path:
        """Return the path on this machine of a file of the running host."""
        return Path(f"/proc/{self.leader}/root") / inside.lstrip("/")

    # Plug

    def boot(self, *, wait: bool = True) -> None:
        """Switch the host on; its disk is what it was when it went off."""
        if self.is_on():
            return
        arguments = [
            "--quiet",
            "--boot",
            f"--machine={self.machine}",
            f"--hostname={self.name}",
            f"--network-bridge={self.lab.bridge}",
            "--register=no",
            "--keep-unit",
            "--link-journal=no",
            "--resolv-conf=off",
            "--timezone=off",
            "--console=pipe",
            *(f"--bind-ro={_escape(path)}" for path in self.lab.shared),
        ]
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", _BOOT, "sh"]
        if Path("/run/systemd/system").is_dir():
            # Every host manages a cgroup of its own; systemd makes it if there is one here.
            command = ["systemd-run", "--scope", "--quiet", "-p", "Delegate=yes", *command]
        else:
            command = ["sh", "-ec", _ENTER, "sh", *map(str, cgroup.create(self.machine)), "--", *command]
        for name in ("root", "work"):
            (self.folder / name).mkdir(exist_ok=True)
        with (self.folder / "console.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, str(self.folder), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
            )
        self.pid = self._process.pid
        if wait:
            self.wait_until_up()

    def wait_until_up(self) -> None:
        """Wait until the host takes SSH sessions and its user managers run."""
        deadline = time.monotonic() + BOOT_TIMEOUT
        while not (self._find_leader() and self._sshd_answers() and self._users_ready()):
            if not self.is_on():
                raise RuntimeError(f"{self.name} ended while booting:\n{self.console()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} is not up after {BOOT_TIMEOUT:.0f} s:\n{self.console()}")
            time.sleep(0.05)
        self.lab.save()

    def power_off(self) -> None:
        """Pull the plug: the cable goes dead first, so that nobody is told, then every process."""
        if self.is_on():
            self.unplug()
            self._find_leader()
            for pid in filter(None, (self.leader, self.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if self._process is not None:
                self._process.wait()
            proc.wait_gone([self.pid, self.leader])
            # Closing connections can hold the host's network for minutes; without its cable it is gone.
            subprocess.run(["ip", "link", "del", self.link], capture_output=True, check=False)
        self.pid = self.leader = 0
        self._process = None
        self.lab.save()

    def is_on(self) -> bool:
        """Tell whether the host runs."""
        if self._process is not None:
            return self._process.poll() is None
        return bool(self.pid) and b"nspawn" in proc.read(Path(f"/proc/{self.pid}/cmdline"))

    # Cable

    def unplug(self) -> None:
        """Pull the network cable: packets vanish, nobody gets a reset."""
        _ip("link", "set", self.link, "down")

    def plug(self) -> None:
        """Put the network cable back."""
        _ip("link", "set", self.link, "up")

    # Resources

    def cpu_limit(self, percent: int | None) -> None:
        """Let the whole host use at most `percent` of one CPU; None lifts the limit."""
        cgroup.limit_cpu(self.machine, self.leader, percent)

    def small_disk(self, path: str, megabytes: int) -> None:
        """Mount a disk of that size at `path` in the host, owned by the host's user."""
        self.enter(["install", "-d", "-o", self.user, "-g", self.user, path])
        uid = self.enter(["id", "-u", self.user]).stdout.strip()
        options = f"size={megabytes}m,mode=700,uid={uid},gid={uid}"
        self.enter(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path])

    def fill_disk(self, path: str, leave_kilobytes: int = 0) -> None:
        """Fill the disk at `path` (made with `small_disk`) with a file `filler`, but for some kilobytes."""
        root = self.path(path)
        free = os.statvfs(root)
        size = free.f_bavail * free.f_frsize - leave_kilobytes * 1024
        with (root / "filler").open("wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, max(size, 1))

    # Commands

    def ssh_command(self, *options: str) -> list[str]:
        """Return `ssh … user@address` with the lab's key and pinned host keys, multiplexed."""
        multiplexed = f"-oControlMaster=auto -oControlPath={self.lab.folder}/cm/%C -oControlPersist=120".split()
        destination = ["-oConnectTimeout=5", "-p", str(self.port), *options, f"{self.user}@{self.address}"]
        return ["ssh", *self.lab.ssh_options, *multiplexed, *destination]

    def run(
        self,
        argv: Sequence[str],
        *,
        check: bool = True,
        timeout: float = 60,
        input: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command over SSH as the host's user and return its output.

        Raises:
            subprocess.CalledProcessError: `check` and the exit code is not 0.
            subprocess.TimeoutExpired: it took longer than `timeout` seconds.
        """
        return subprocess.run(
            [*self.ssh_command("-T"), shlex.join(argv)],
            check=check,
            timeout=timeout,
            text=True,
            capture_output=True,
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
        )

    def enter(
        self, argv: Sequence[str], *, check: bool = True, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root in the host without the network (works while unplugged)."""
        return subprocess.run(
            ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "-C", "--", *argv],
            check=check,
            timeout=timeout,
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
        )

    def processes(self, token: str = "") -> list[int]:
        """Return the host's processes (pids of this machine) that have `token` in their environment.

        An empty token means all processes of the host.
        """
        return proc.beside(self.leader, token)

    def kill(self, pids: Iterable[int], number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to processes of the host given by their pids on this machine."""
        own = set(self.processes())
        for pid in pids:
            if pid not in own:
                raise ValueError(f"process {pid} is not one of {self.name}")
            os.kill(pid, number)

    def console(self) -> str:
        """Return the last lines the host wrote to its console."""
        path = self.folder / "console.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-15:]) if path.exists() else ""

    # Readiness

    def _find_leader(self) -> bool:
        if self.leader and proc.namespace(self.leader):
            return True
        self.leader = next(
            (pid for pid in proc.children(self.pid) if proc.read(Path(f"/proc/{pid}/comm")).strip() == b"systemd"),
            0,
        )
        return bool(self.leader)

    def _sshd_answers(self) -> bool:
        try:
            with socket.create_connection((self.address, self.port), timeout=0.5) as connection:
                connection.settimeout(2)
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def _users_ready(self) -> bool:
        """User managers (lingering accounts) and logins are ready a moment after sshd."""
        if self.path("/run/nologin").exists():
            return False
        if self.user == "root":
            return True
        from tests.lab.image import USERS

        return self.path(f"/run/user/{USERS[self.user]}/bus").exists()


def _escape(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace(":", "\\:")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
