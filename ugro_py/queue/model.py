"""What the scheduler is told and what it answers: a `Snapshot` of the cluster in, a `Decision` out. Values only.

Times are unix seconds, durations seconds. `ugro_py.queue.snapshot.snapshot_of` makes a snapshot from the store,
`ugro_py.queue.decide.decide` turns it into a decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ugro_py.scheduler import Gpu, Placement, Request

URGENT, NORMAL, BATCH = 90, 50, 10
"""The priorities that have a name. From 0 to 100, higher goes first."""

Account = tuple[str, str]
"""Whom a quota is for: ("user", name) or ("group", name)."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job in the queue.

    Attributes:
        job: its name.
        user: who asked for it; `group` is that user's group, None where it has none.
        priority: 0 to 100, higher goes first.
        request: how many GPUs, and from where.
        submitted_at: when it was asked for.
        position: its place among the jobs of one user and one priority, on the axis of `submitted_at`, which it
            replaces there; None where nobody moved the job.
        held_by: who holds it back; None where nobody does.
        after: names of jobs that must have completed before.
        time_limit_s: after how long its GPUs are free again at the latest; None where it has no time limit.
        blocked: why it cannot start whatever is free (the caller's own reasons, a back-off, say); empty if it can.
    """

    job: str
    user: str
    priority: int
    request: Request
    submitted_at: float
    group: str | None = None
    position: float | None = None
    held_by: str | None = None
    after: tuple[str, ...] = ()
    time_limit_s: float | None = None
    blocked: str = ""


@dataclass(frozen=True, slots=True)
class Running:
    """A job that holds GPUs.

    Attributes:
        gpus: UUIDs of the GPUs it holds.
        since: since when; of jobs to preempt the youngest go first.
        ends_at: when its GPUs are free at the latest; None where it has no time limit.
        stopping: it was asked to stop already.
    """

    job: str
    user: str
    priority: int
    gpus: tuple[str, ...]
    since: float
    group: str | None = None
    ends_at: float | None = None
    stopping: bool = False


@dataclass(frozen=True, slots=True)
class Quota:
    """What a user or a group may use; None means no limit. `used_hours` are GPU hours of the last seven days."""

    max_gpus: int | None = None
    gpu_hours_week: float | None = None
    used_hours: float = 0.0


@dataclass(frozen=True)
class Snapshot:
    """Everything one decision depends on.

    Attributes:
        now: the time of the snapshot.
        nodes: names of the nodes in inventory order, master first.
        gpus: the GPUs and CPU slots that these nodes have.
        waiting: the queue, in any order.
        running: the jobs that hold GPUs.
        unschedulable: node -> why no job may start there ("gpu2 is drained by ob: new fan").
        unusable: UUID of a GPU -> why no job may have it ("gpu1:0 is used by process 4711 of ollie").
        usage: user -> GPU seconds used, older use counting less (half-life `fair_share_half_life_h`).
        quotas: those that limit anybody.
        ended: how the jobs that others are `after` have ended (completed, failed, stopped), and "" for one that does
            not exist; those that have not ended are missing.
        preemption: whether urgent jobs may stop batch jobs.
    """

    now: float
    nodes: tuple[str, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    running: tuple[Running, ...] = ()
    unschedulable: Mapping[str, str] = field(default_factory=dict)
    unusable: Mapping[str, str] = field(default_factory=dict)
    usage: Mapping[str, float] = field(default_factory=dict)
    quotas: Mapping[Account, Quota] = field(default_factory=dict)
    ended: Mapping[str, str] = field(default_factory=dict)
    preemption: bool = False


@dataclass(frozen=True, slots=True)
class Start:
    """This job starts now, with these ranks on these GPUs."""

    job: str
    placements: tuple[Placement, ...]


@dataclass(frozen=True, slots=True)
class Preempt:
    """This running job is to be stopped, with a checkpoint, and queued again, so that `for_job` can start."""

    job: str
    for_job: str


@dataclass(frozen=True, slots=True)
class Fail:
    """This job can never start: what it was to follow has failed."""

    job: str
    reason: str


@dataclass(frozen=True)
class Decision:
    """What is to be done now.

    Attributes:
        start: the jobs that start, first in line first.
        reasons: why each other job waits, in plain words.
        preempt: the jobs to stop for more urgent ones.
        fail: the jobs that can never start.
        order: all jobs of the queue, first in line first, those that start now included.
        expected: when jobs start at the latest, as far as the time limits of running jobs promise it.
    """

    start: tuple[Start, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)
    preempt: tuple[Preempt, ...] = ()
    fail: tuple[Fail, ...] = ()
    order: tuple[str, ...] = ()
    expected: Mapping[str, float] = field(default_factory=dict)
