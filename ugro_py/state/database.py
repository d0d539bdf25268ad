"""Opens the state database: checks its place, brings its schema up to date, hands out transactions."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError

from ugro_py.errors import StateError
from ugro_py.state.away import AwayError, busy_s, libpq_options, may_pass
from ugro_py.state.outage import Outage

HEAD = "0004"
"""The newest revision in `migrations/versions`; held here so that opening need not import Alembic."""

BUSY_TIMEOUT_S = 30
_MIGRATION_LOCK = 0x7567726F  # "ugro": the key of PostgreSQL's advisory lock
_NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smbfs", "smb2", "smb3", "9p", "afs", "davfs", "ncpfs"}
    | {"ceph", "lustre", "gpfs", "beegfs", "glusterfs", "ocfs2", "gfs2"}
)
_LOCAL_FUSE = frozenset({"fuseblk", "fuse.fuse-overlayfs", "fuse.lxcfs"})


def network_file_system(path: Path, mounts: Path = Path("/proc/mounts")) -> str | None:
    """Return the type of the network file system that holds `path`, or None if it is a local one.

    FUSE counts as network (sshfs, rclone, s3fs …) unless it is known to be local. Where there is no
    table of mounts (macOS) the answer is None.
    """
    try:
        table = mounts.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    place = path.resolve()
    kind, best = None, -1
    for line in table.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        # The kernel writes blanks in mount points as octal escapes.
        point = Path(fields[1].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\"))
        # A later mount on the same point hides the earlier one.
        if len(point.parts) >= best and place.is_relative_to(point):
            kind, best = fields[2], len(point.parts)
    if kind is None:
        return None
    network = kind in _NETWORK_FILE_SYSTEMS or (kind.startswith("fuse") and kind not in _LOCAL_FUSE)
    return kind if network else None


class Database:
    """An open, current state database. `outage` is where those who bear that it is away keep since when.

    Args:
        url: an SQLAlchemy URL, `sqlite:////absolute/path.db` or `postgresql://user@host/name`.
        mounts: the table of mounts to look the file up in.

    Raises:
        StateError: the URL is not usable, SQLite would lie on a network file system, the file is not
            a database, or a newer UGRO made it.
    """

    def __init__(self, url: str, mounts: Path = Path("/proc/mounts")) -> None:
        self.url = _checked_url(url)
        self.shown = self.url.render_as_string(hide_password=True)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        if self.sqlite:
            _prepare_file(Path(self.url.database or ""), mounts)
        self.outage = Outage()
        self.engine = self._engine()
        try:
            self._migrate_if_needed()
        except BaseException:
            self.engine.dispose()
            raise

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection that sees one consistent state of the database."""
        with self._errors(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a connection in a transaction that commits at the end, or rolls back on any exception.

        On SQLite the transaction holds the write lock from its start, so that what it reads is still
        true when it writes. `IntegrityError` passes through: callers know what it means.
        """
        with self._errors(), self.engine.connect() as connection:
            writing = connection.execution_options(ugro_write=True)
            with writing.begin():
                yield writing

    @contextmanager
    def write_soon(self) -> Iterator[Connection]:
        """Give a connection as `write` does; but on SQLite what was committed is on the disk after `flush` only.

        It is there for everybody at once, and outlives every process. Power that fails before the next `flush`, or
        before the next `write` of any process, takes it along, whole.
        """
        with self._errors(), self.engine.connect() as connection:
            raw = connection.connection.dbapi_connection if self.sqlite else None
            if raw is not None:
                raw.cursor().execute("PRAGMA synchronous = NORMAL")
            try:
                writing = connection.execution_options(ugro_write=True)
                with writing.begin():
                    yield writing
            finally:
                if raw is not None:
                    raw.cursor().execute("PRAGMA synchronous = FULL")

    def flush(self) -> None:
        """See to it that what `write_soon` committed is on the disk.

        Raises:
            StateError: the disk does not take it.
        """
        if not self.sqlite:
            return
        try:
            # The log alone: to close another descriptor of the database itself would drop this process's locks on it.
            log = os.open(f"{self.url.database}-wal", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # all of it is in the database by now, and synced
        try:
            os.fsync(log)
        except OSError as error:
            raise StateError(f"write state database {self.shown} to disk", str(error.strerror), "check it") from error
        finally:
            os.close(log)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            raise self._state_error(error) from error

    def _state_error(self, error: SQLAlchemyError) -> StateError:
        came_back = str(getattr(error, "orig", None) or error)
        advice = "check the database or name another with UGRO_DB"
        if "locked" in came_back:
            advice = "another process holds it: see `fuser` on the file, then try again"
        elif "full" in came_back:
            advice = "free some space on its disk"
        elif "not a database" in came_back or "malformed" in came_back:
            advice = "move the file away; UGRO makes a new one"
        kind = AwayError if may_pass(error, came_back) else StateError
        return kind(f"state database {self.shown}", came_back, advice)

    def _engine(self) -> Engine:
        options: dict[str, Any] = {} if self.sqlite else {"pool_pre_ping": True}
        options["connect_args"] = {"timeout": BUSY_TIMEOUT_S} if self.sqlite else libpq_options(self.url)
        try:
            engine = create_engine(self.url, **options)
        except ModuleNotFoundError as error:
            raise StateError(
                f"state database {self.shown}",
                f"Python package {error.name} is missing",
                "run `pip install 'ugro[postgres]'`",
            ) from error
        except SQLAlchemyError as error:
            raise self._state_error(error) from error
        if self.sqlite:
            event.listen(engine, "connect", _configure_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
        return engine

    def _migrate_if_needed(self) -> None:
        with self._errors():
            found = self._revision()
            if found == HEAD:
                return
            if found is not None and found > HEAD:
                raise StateError(
                    f"state database {self.shown}",
                    f"it has schema {found}, this UGRO knows {HEAD}",
                    "update UGRO, or name another database with UGRO_DB",
                )
            with self.write() as connection:
                if not self.sqlite:
                    # SQLite's write lock is already held; here two first starts wait for each other.
                    connection.execute(text("SET LOCAL statement_timeout = 0"))
                    connection.execute(text("SET LOCAL lock_timeout = 0"))
                    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
                from ugro_py.state.migrations.run import upgrade

                upgrade(connection)

    def _revision(self) -> str | None:
        """Return the schema revision of the database, None if it has no schema yet."""
        with self.engine.connect() as connection, connection.begin():
            if self.sqlite:
                query = "SELECT count(*) FROM sqlite_master WHERE name = 'alembic_version'"
            else:
                query = "SELECT count(*) FROM pg_tables WHERE tablename = 'alembic_version'"
            if not connection.scalar(text(query)):
                return None
            found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
            return found


def _checked_url(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise StateError("read the URL of the state database (UGRO_DB)", "it is not a URL", _FORMS) from error
    shown = parsed.render_as_string(hide_password=True)
    backend = parsed.get_backend_name()
    if backend == "postgres" or parsed.drivername == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend not in ("sqlite", "postgresql"):
        raise StateError(f"state database {shown}", f"{backend} is not supported", _FORMS)
    if backend == "sqlite" and (not parsed.database or parsed.database.startswith((":memory:", "file:"))):
        raise StateError(f"state database {shown}", "SQLite needs a plain file", _FORMS)
    return parsed


_FORMS = "use sqlite:////path/ugro.db or postgresql://user@host/name"


def _prepare_file(path: Path, mounts: Path) -> None:
    """Make the folder (0700) and an empty file (0600): requests and tokens are the owner's business."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        kind = network_file_system(path, mounts)
        if kind:
            raise StateError(
                f"state database {path}",
                f"it is on a network file system ({kind}), where SQLite loses data",
                "set UGRO_DB to sqlite:////path/on/a/local/disk.db or to a PostgreSQL URL",
            )
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StateError(
            f"open the state database {path}",
            error.strerror or str(error),
            "make the place writable or name another with UGRO_DB",
        ) from error


def _configure_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun by `_begin_sqlite`, not by the driver
    # FULL, not NORMAL: a job started before a power cut must still be known after it.
    for pragma in ("foreign_keys = ON", "synchronous = FULL"):
        connection.execute(f"PRAGMA {pragma}")
    # The switch to WAL happens once in the life of a file; SQLite does not wait for other openers there.
    until = time.monotonic() + busy_s(BUSY_TIMEOUT_S)
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    writing = connection.get_execution_options().get("ugro_write", False)
    if writing:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {busy_s(BUSY_TIMEOUT_S) * 1000:.0f}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
