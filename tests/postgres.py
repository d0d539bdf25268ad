# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL server of the tests' own, on a Unix socket, that can be killed and started again."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Postgres:
    """A server whose files lie in `folder`.

    Attributes:
        folder: also holds its socket.
        url: of its first database.
    """

    def __init__(self, binaries: Path, folder: Path) -> None:
        self.folder = folder
        self.url = self.url_of("postgres")
        self._binaries = binaries
        self._data = folder / "data"
        made = self._run("initdb", "-U", "ugro", "-A", "trust", "-N", "--locale=C", "-E", "UTF8")
        assert made.returncode == 0, made.stdout

    def url_of(self, name: str) -> str:
        """Return the URL of one of its databases."""
        return f"postgresql+psycopg://ugro@/{name}?host={self.folder}"

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        settings = f"-c listen_addresses='' -c unix_socket_directories={self.folder} -c fsync=off"
        started = self._run("pg_ctl", "-w", "-l", str(self.folder / "log"), "-o", settings, "start")
        assert started.returncode == 0, started.stdout + (self.folder / "log").read_text()

    def stop(self) -> None:
        """End it at once."""
        self._run("pg_ctl", "-m", "immediate", "stop")

    def processes(self) -> list[int]:
        """Return its processes, the postmaster first."""
        master = int((self._data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        return [master, *map(int, children)]

    def kill(self) -> None:
        """SIGKILL to all of it."""
        killed = self.processes()
        for pid in killed:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue  # a child that ended with the postmaster
        deadline = time.monotonic() + 20
        while any(Path(f"/proc/{pid}/stat").exists() and not _zombie(pid) for pid in killed):
            assert time.monotonic() < deadline, "it lives on"
            time.sleep(0.02)
        # A process that nobody reaps counts as alive to who starts the next.
        for left in (self._data / "postmaster.pid", *self.folder.glob(".s.PGSQL.*")):
            left.unlink(missing_ok=True)

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a program on its data; PostgreSQL refuses to run as root, so root hands it to an unprivileged user."""
        user = _server_user()
        options = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        command = [str(self._binaries / program), "-D", str(self._data), *arguments]
        # Output goes to a file: the server inherits it and would keep a pipe open for ever.
        with (self.folder / "output.txt").open("w+") as output:
            done = subprocess.run(
                command, stdout=output, stderr=subprocess.STDOUT, timeout=60, cwd=self.folder, **options
            )
            output.seek(0)
            return subprocess.CompletedProcess(command, done.returncode, output.read())


def _zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Run a server until the end; the test is skipped where none is installed."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("PostgreSQL's server is not installed (Debian: postgresql)")
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("Python package psycopg is not installed (extra `postgres`)")
    folder = Path(tempfile.mkdtemp(prefix="ugro-pg-"))  # short: a socket's path has at most 107 bytes
    try:
        user = _server_user()
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        server = Postgres(binaries, folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def _binaries() -> Path | None:
    """Return the folder of PostgreSQL's server programs; Debian keeps them off PATH."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


def _server_user() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    return names.get("postgres") or names["nobody"]
