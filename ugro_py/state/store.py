"""The state of the cluster: nodes, GPUs, jobs, attempts, ranks, allocations, events."""

from __future__ import annotations

from types import TracebackType

from ugro_py import paths
from ugro_py.state._accounts import Accounts
from ugro_py.state._alerts import Alerts
from ugro_py.state._attempts import Attempts
from ugro_py.state._health import Health
from ugro_py.state._jobs import Jobs
from ugro_py.state._leases import Leases
from ugro_py.state._nodes import Nodes
from ugro_py.state._queue import Queue
from ugro_py.state._ranks import Ranks
from ugro_py.state._recovery import Recovery
from ugro_py.state.database import Database


class Store(Nodes, Jobs, Attempts, Ranks, Queue, Recovery, Health, Leases, Accounts, Alerts):
    """The one truth about the cluster, in a database that many processes share.

    Every method is one short transaction. A store may be used by several threads, but not across a
    fork: a child opens its own. Any method raises `StateError` when the database cannot be used.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    @classmethod
    def open(cls, url: str | None = None) -> Store:
        """Open the database, making or migrating it first where needed.

        Args:
            url: an SQLAlchemy URL of SQLite or PostgreSQL; default `paths.database_url()`.

        Raises:
            StateError: the database cannot be used, or SQLite would lie on a network file system.
        """
        return cls(Database(url or paths.database_url()))

    def close(self) -> None:
        """Close the connections to the database."""
        self.database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
