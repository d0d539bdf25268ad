"""The state of the cluster: nodes, GPUs, jobs, attempts, ranks, allocations, events."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import TracebackType

from ugro_py import paths
from ugro_py.state._accounts import Accounts
from ugro_py.state._alerts import Alerts
from ugro_py.state._attempts import Attempts
from ugro_py.state._experiments import Experiments
from ugro_py.state._health import Health
from ugro_py.state._jobs import Jobs
from ugro_py.state._leases import Lease, Leases
from ugro_py.state._nodes import Nodes
from ugro_py.state._patience import Patience
from ugro_py.state._queue import Queue
from ugro_py.state._ranks import Ranks
from ugro_py.state._recovery import Recovery
from ugro_py.state._submit import Submit
from ugro_py.state._web_sessions import WebSessions
from ugro_py.state.database import Database
from ugro_py.state.fence import Fence
from ugro_py.state.rows import Controller
from ugro_py.state.settled import Settled


class Store(
    Nodes,
    Jobs,
    Attempts,
    Ranks,
    Queue,
    Submit,
    Recovery,
    Health,
    Leases,
    Accounts,
    Alerts,
    Experiments,
    WebSessions,
    Patience,
):
    """The one truth about the cluster, in a database that many processes share.

    Every method is one short transaction. A store may be used by several threads, but not across a
    fork: a child opens its own. Any method raises `StateError` when the database cannot be used.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._settled = Settled()

    @classmethod
    def open(cls, url: str | None = None) -> Store:
        """Open the database, making or migrating it first where needed.

        Args:
            url: an SQLAlchemy URL of SQLite or PostgreSQL; default `paths.database_url()`.

        Raises:
            StateError: the database cannot be used, or SQLite would lie on a network file system.
        """
        return cls(Database(url or paths.database_url()))

    def acting_as(
        self, controller: Controller, valid: Callable[[], bool] | None = None, lease: Lease | None = None
    ) -> Store:
        """Return this store for the controller of a job: it writes nothing of a job that is not the controller's.

        Every write of a job, its attempts, ranks, allocations and events is refused then (`LostControlError`). What
        anybody may ask for (stops, changes of the queue) is not. One that acts for this controller already is returned
        as it is.

        Args:
            controller: who acts.
            valid: says, without the database, whether it may still act at all; see `Fence`.
            lease: under which it claims jobs.
        """
        if self.fence is not None and self.fence.controller == controller:
            return self
        theirs = copy.copy(self)
        theirs.fence = Fence(controller, valid, lease) if valid else Fence(controller, lease=lease)
        return theirs

    def close(self) -> None:
        """Close the connections to the database."""
        self.database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
