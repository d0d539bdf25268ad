"""What the store hands out: frozen values, detached from the database."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ugro_py.state.experiment_row import ExperimentRow

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def _boot_id() -> str:
    return _BOOT_ID.read_text(encoding="ascii").strip() if _BOOT_ID.exists() else ""


def _start_ticks(pid: int) -> int | None:
    """Return when the process started, in clock ticks since boot; None if it is gone or a zombie.

    Where there is no /proc (macOS) a living process gives 0: then only its number identifies it.
    """
    if not Path("/proc/self/stat").exists():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            return 0
        return 0
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command name in field 2 may hold spaces and parentheses: count from the last one.
    after_name = stat[stat.rindex(")") + 2 :].split()
    return None if after_name[0] in "ZXx" else int(after_name[19])


@dataclass(frozen=True)
class Controller:
    """The process that follows a job, identified for good: a reused PID is another process.

    `replaces` is the dead controller whose place it may take (see `Store.claim`); it is no part of
    the identity.
    """

    host: str
    boot_id: str
    pid: int
    start_ticks: int
    replaces: Controller | None = field(default=None, compare=False, repr=False)

    @classmethod
    def me(cls, replaces: Controller | None = None) -> Controller:
        """Return the identity of the calling process."""
        return cls.of(os.getpid(), replaces)

    @classmethod
    def of(cls, pid: int, replaces: Controller | None = None) -> Controller:
        """Return the identity of the process `pid` of this machine."""
        return cls(socket.gethostname(), _boot_id(), pid, _start_ticks(pid) or 0, replaces)

    def is_alive(self) -> bool | None:
        """Return whether the process runs; None if it is on another host and so cannot be seen."""
        if self.host != socket.gethostname():
            return None
        return self.boot_id == _boot_id() and _start_ticks(self.pid) == self.start_ticks


@dataclass(frozen=True)
class NodeRow:
    """A node as last seen. `status`: unknown, available, unreachable …; `reason` says why.

    `health` is what the sweeps say (unknown, healthy, degraded, unreachable); `drain` keeps new jobs away from it,
    until a person ends that (`drain_lasts`), or the health sweep finds it well.
    """

    name: str
    address: str
    status: str
    reason: str
    facts: Mapping[str, Any]
    last_seen: datetime | None
    health: str = "unknown"
    health_reason: str = ""
    health_since: datetime | None = None
    health_at: datetime | None = None
    drain: bool = False
    drain_reason: str = ""
    drained_by: str | None = None
    drain_lasts: bool = True


@dataclass(frozen=True)
class JobRow:
    """A job. Times are aware and UTC; `started_at` is when it first ran, None before that.

    A job waits in the queue while it is `pending`; `priority` (0 to 100), `position`, `held` and `after` (names of jobs
    that must end first) say when its turn comes, `reason` says what it waits for.
    """

    name: str
    user: str
    status: str
    reason: str
    exit_code: int | None
    request: Mapping[str, Any]
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    controller: Controller | None
    stop_requested: bool
    stop_force: bool
    priority: int = 50
    position: float | None = None
    held: bool = False
    held_by: str | None = None
    after: tuple[str, ...] = ()
    time_limit_s: float | None = None
    preempted: int = 0
    group: str | None = None

    @property
    def active(self) -> bool:
        """Whether the job has not ended yet."""
        return self.status not in ("completed", "failed", "stopped")


def ran_s(job: JobRow | ExperimentRow, now: datetime) -> float | None:
    """Return for how many seconds a job has run, until its end; None if it never began, or waits to run again."""
    if job.started_at is None or job.status == "pending":
        return None
    return ((job.ended_at or now) - job.started_at).total_seconds()


@dataclass(frozen=True)
class AttemptRow:
    """One gang start of a job. `number` counts from 1 and only grows: it is the fencing token."""

    job: str
    number: int
    status: str
    reason: str
    master_addr: str
    master_port: int
    token: str = field(repr=False)
    sync_window_s: float | None
    first_failed_rank: int | None
    started_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True)
class RankRow:
    """One rank of an attempt. `gpu_index` is the GPU's index when the node was last read."""

    job: str
    attempt: int
    rank: int
    node: str
    local_rank: int
    gpu_uuid: str
    gpu_index: int
    status: str
    pid: int | None
    exit_code: int | None
    signal: int | None
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True)
class HealthRow:
    """One check of a node: its state afterwards, the highest severity, and the findings that were not ok."""

    node: str
    at: datetime
    state: str
    severity: str
    latency_ms: float | None
    findings: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class EventRow:
    """Something that happened; `severity` is info, warning or error."""

    at: datetime
    kind: str
    severity: str
    text: str
    job: str | None
    node: str | None
    rank: int | None
    data: Mapping[str, Any] | None
    id: int = 0


@dataclass(frozen=True)
class AlertRow:
    """A condition that was told of. It lasts until `resolved_at`; `notified_at` is when people were told last."""

    id: int
    key: str
    rule: str
    severity: str
    text: str
    job: str | None
    node: str | None
    first_at: datetime
    last_at: datetime
    count: int
    notified_at: datetime | None
    resolved_at: datetime | None


@dataclass(frozen=True)
class WebSessionRow:
    """A session of a browser; times are aware. See `ugro_py.state.models_web` for what each value is."""

    digest: str
    user: str
    uid: int | None
    gid: int | None
    token_mark: str | None
    ends: datetime
    seen: datetime
