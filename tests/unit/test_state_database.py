"""Opening the state database: its place, its schema, and every way in which it can be unusable."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from ugro_py.errors import StateError
from ugro_py.state import Store, database
from ugro_py.state.database import HEAD, Database, network_file_system
from ugro_py.state.migrations import run
from ugro_py.state.models import metadata


def test_models_and_migrations_agree(store: Store) -> None:
    with store.database.write() as connection:
        # SQLite gives defaults back as it was told them, quotes and all: only PostgreSQL can compare them.
        options = {"compare_server_default": not store.database.sqlite}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


def test_the_partial_index_is_in_the_database(store: Store) -> None:
    with store.database.read() as connection:
        indexes = {index["name"]: index for index in inspect(connection).get_indexes("allocations")}
        index = indexes["uq_allocations_active_gpu"]
        where = index["dialect_options"]
        assert index["unique"]
        assert index["column_names"] == ["gpu_uuid"]
        assert "released_at IS NULL" in str(next(v for k, v in where.items() if k.endswith("_where")))


def test_down_and_up_again(store: Store) -> None:
    from alembic import command

    with store.database.write() as connection:
        command.downgrade(run.config(connection), "base")
        assert inspect(connection).get_table_names() == ["alembic_version"]
        run.upgrade(connection)
    store.create_job("one", "ob", {})


def test_head_is_the_newest_revision(store: Store) -> None:
    with store.database.read() as connection:
        assert ScriptDirectory.from_config(run.config(connection)).get_current_head() == HEAD
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == HEAD


def test_a_second_opening_keeps_everything_and_loads_neither_alembic_nor_the_orm(store: Store, store_url: str) -> None:
    store.create_job("one", "ob", {})
    code = (
        "import sys\n"
        "from ugro_py.state import Store\n"
        f"print([job.name for job in Store.open({store_url!r}).jobs()])\n"
        "print(sorted({'alembic', 'sqlalchemy.orm', 'rich', 'pydantic', 'ansible'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['one']\n[]\n"


def test_the_default_place_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UGRO_DB", raising=False)
    monkeypatch.setenv("UGRO_DATA", str(tmp_path / "new" / "ugro_data"))
    before = os.umask(0o022)
    try:
        with Store.open() as store:
            store.create_job("one", "ob", {})
            folder = tmp_path / "new" / "ugro_data"
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            files = sorted(folder.iterdir())
            assert [file.name for file in files] == ["ugro.db", "ugro.db-shm", "ugro.db-wal"]
            assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    finally:
        os.umask(before)


def test_ugro_db_names_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UGRO_DB", f"sqlite:///{tmp_path}/a b ü.db")
    with Store.open() as store:
        store.create_job("one", "ob", {})
    assert (tmp_path / "a b ü.db").is_file()


def test_a_central_store_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UGRO_DB", raising=False)
    monkeypatch.setenv("UGRO_DATA", str(tmp_path / "50%20 ü?#&x=1"))
    with Store.open() as store:
        store.create_job("one", "ob", {})
    assert (tmp_path / "50%20 ü?#&x=1" / "ugro.db").is_file()


def test_sqlite_settings(tmp_path: Path) -> None:
    opened = Database(f"sqlite:///{tmp_path}/x.db")
    with opened.read() as connection:
        found = {
            name: connection.scalar(text(f"PRAGMA {name}"))
            for name in ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
        }
    opened.close()
    assert found == {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 2, "busy_timeout": 30_000}


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("nas:/home {} nfs4 rw 0 0", "nfs4"),
        ("nas:/home {} nfs rw 0 0", "nfs"),
        ("//nas/home {} cifs rw 0 0", "cifs"),
        ("ob@nas: {} fuse.sshfs rw 0 0", "fuse.sshfs"),
        ("C: {} 9p rw 0 0", "9p"),
        ("/dev/sda1 {} ext4 rw 0 0", None),
        ("/dev/sda1 {} fuseblk rw 0 0", None),
        ("overlay {} overlay rw 0 0", None),
    ],
)
def test_sqlite_is_refused_on_a_network_file_system(tmp_path: Path, line: str, kind: str | None) -> None:
    place = tmp_path / "home of ob" / "ugro_data"
    mounts = tmp_path / "mounts"
    point = str(tmp_path / "home of ob").replace(" ", "\\040")
    mounts.write_text(f"/dev/sda1 / ext4 rw 0 0\n{line.format(point)}\nproc /proc proc rw 0 0\n")
    assert network_file_system(place / "ugro.db", mounts) == kind
    if kind is None:
        Database(f"sqlite:///{place}/ugro.db", mounts).close()
        return
    with pytest.raises(StateError, match=rf"network file system \({kind}\)"):
        Database(f"sqlite:///{place}/ugro.db", mounts)
    assert not (place / "ugro.db").exists()


def test_the_innermost_and_the_last_mount_decide(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    inner, link = tmp_path / "home" / "local", tmp_path / "link"
    inner.mkdir(parents=True)
    link.symlink_to(tmp_path / "home")
    home = tmp_path / "home"
    mounts.write_text(f"/dev/a / ext4 rw 0 0\nnas:/ {home} nfs rw 0 0\n/dev/b {inner} ext4 rw 0 0\n")
    assert network_file_system(home / "x.db", mounts) == "nfs"
    assert network_file_system(inner / "x.db", mounts) is None
    assert network_file_system(link / "x.db", mounts) == "nfs"
    assert network_file_system(tmp_path / "home2" / "x.db", mounts) is None
    mounts.write_text(f"systemd-1 {home} autofs rw 0 0\nnas:/ {home} nfs rw 0 0\n")
    assert network_file_system(home / "x.db", mounts) == "nfs"
    assert network_file_system(home / "x.db", tmp_path / "no such file") is None


@pytest.mark.parametrize(
    ("url", "text_"),
    [
        ("nonsense", "it is not a URL"),
        ("sqlite://", "SQLite needs a plain file"),
        ("sqlite:///:memory:", "SQLite needs a plain file"),
        ("mysql://ob:geheim@db/ugro", "mysql is not supported"),
        ("postgresql://ob:geheim@127.0.0.1:1/ugro", "refused"),
        ("sqlite:////proc/no/ugro.db", "open the state database /proc/no/ugro.db: "),
    ],
)
def test_unusable_urls(url: str, text_: str) -> None:
    if url.startswith("postgresql"):
        pytest.importorskip("psycopg", reason="extra `postgres` is not installed")
    with pytest.raises(StateError) as caught:
        Store.open(url)
    assert text_ in str(caught.value)
    assert "geheim" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "ugro.db").write_text("not a database at all, but long enough to be read as a header" * 9)
    with pytest.raises(StateError, match="not a database; move the file away"):
        Store.open(f"sqlite:///{tmp_path}/ugro.db")


def test_a_folder_in_the_place_of_the_database(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="Is a directory"):
        Store.open(f"sqlite:///{tmp_path}")


def test_a_schema_of_the_future_is_left_alone(store: Store, store_url: str) -> None:
    with store.database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StateError, match=r"schema 9999, this UGRO knows .*; update UGRO"):
        Store.open(store_url)


def test_a_database_that_stays_locked_is_an_error_not_a_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.2)
    with Store.open(f"sqlite:///{tmp_path}/ugro.db") as store:
        other = sqlite3.connect(tmp_path / "ugro.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert store.jobs() == []
        begun = time.monotonic()
        with pytest.raises(StateError, match="database is locked; another process holds it"):
            store.create_job("one", "ob", {})
        assert time.monotonic() - begun < 5
        other.execute("ROLLBACK")
        other.close()
        store.create_job("one", "ob", {})


def test_a_full_disk_is_said_and_leaves_the_database_whole(tmp_path: Path) -> None:
    with Store.open(f"sqlite:///{tmp_path}/ugro.db") as store:
        store.create_job("one", "ob", {})
        with store.database.read() as connection:
            pages = connection.scalar(text("PRAGMA page_count"))
            connection.execute(text(f"PRAGMA max_page_count = {pages}"))
        with pytest.raises(StateError, match="disk is full; free some space"):
            store.create_job("two", "ob", {"big": "x" * 100_000})
        assert [job.name for job in store.jobs()] == ["one"]
