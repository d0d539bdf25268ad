"""Databases for the tests of the store: SQLite files, and a private PostgreSQL server where one is installed."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ugro_py.state import Store


def _postgres_binaries() -> Path | None:
    """Return the folder of PostgreSQL's server programs; Debian keeps them off PATH."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


def _as_server_user(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program; PostgreSQL refuses to run as root, so root hands it to an unprivileged user."""
    user = _server_user()
    options = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    # Output goes to a file: the server inherits it and would keep a pipe open for ever.
    with (folder / "output.txt").open("w+") as output:
        done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, timeout=60, cwd=folder, **options)
        output.seek(0)
        return subprocess.CompletedProcess(command, done.returncode, output.read())


def _server_user() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    return names.get("postgres") or names["nobody"]


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A PostgreSQL server of this test run alone, on a Unix socket; gives the URL of its databases."""
    binaries = _postgres_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL's server is not installed (Debian: postgresql)")
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("Python package psycopg is not installed (extra `postgres`)")
    folder = Path(tempfile.mkdtemp(prefix="ugro-pg-"))  # short: a socket's path has at most 107 bytes
    try:
        user = _server_user()
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        data = folder / "data"
        made = _as_server_user(
            [str(binaries / "initdb"), "-D", str(data), "-U", "ugro", "-A", "trust", "-N", "--locale=C", "-E", "UTF8"],
            folder,
        )
        assert made.returncode == 0, made.stdout
        settings = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
        start = [str(binaries / "pg_ctl"), "-D", str(data), "-w", "-l", str(folder / "log"), "-o", settings, "start"]
        started = _as_server_user(start, folder)
        assert started.returncode == 0, started.stdout + (folder / "log").read_text()
        try:
            yield f"postgresql+psycopg://ugro@/NAME?host={folder}"
        finally:
            _as_server_user([str(binaries / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop"], folder)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database that does not exist yet (SQLite) or is empty (PostgreSQL)."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'data' / 'ugro.db'}"
    from sqlalchemy import create_engine, text

    server: str = request.getfixturevalue("postgres_server")
    name = f"test_{uuid.uuid4().hex}"
    engine = create_engine(server.replace("NAME", "postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return server.replace("NAME", name)


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """An empty store, once on SQLite and once on PostgreSQL."""
    with Store.open(store_url) as opened:
        yield opened
