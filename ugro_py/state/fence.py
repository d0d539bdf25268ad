"""Who lost a job writes nothing of it any more: the condition under which a controller uses the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ugro_py.errors import UgroError
from ugro_py.state.rows import Controller

if TYPE_CHECKING:
    from ugro_py.state._leases import Lease


class LostControlError(UgroError):
    """Another process controls the job now, or may: whoever gets this leaves its rows and its nodes alone.

    Not a `StateError`: the database works, and to try again would come to the same.
    """

    exit_code = 9


def _always() -> bool:
    return True


@dataclass(frozen=True)
class Fence:
    """What has to hold when a controller writes.

    Attributes:
        controller: must be the job's in the same transaction as each write.
        valid: must say so too; asked without the database. Of an agent: that its lease has not run out.
        lease: the lease under which it acts, which must be its own still when it claims a job.
    """

    controller: Controller
    valid: Callable[[], bool] = field(default=_always, compare=False)
    lease: Lease | None = field(default=None, compare=False)

    def check_valid(self, job: str) -> None:
        """Raise if this process may not act for any job.

        Raises:
            LostControlError: it may not.
        """
        if not self.valid():
            raise LostControlError(
                f"control job {job}", "the lease of this agent has run out", "another agent goes on with it"
            )

    def check(self, job: str, row: Any) -> None:
        """Raise if the row of a job (its columns `controller_*`) is not of this controller.

        Raises:
            LostControlError: it is not.
        """
        self.check_valid(job)
        mine = self.controller
        found = (row.controller_host, row.controller_boot_id, row.controller_pid, row.controller_start_ticks)
        if found != (mine.host, mine.boot_id, mine.pid, mine.start_ticks):
            who = f"process {found[2]} on {found[0]} controls it" if found[2] is not None else "it was handed over"
            raise LostControlError(f"control job {job}", who, f"see `ugro status {job}`")
