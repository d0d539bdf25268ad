"""What the queue would say of a job that is not in it: whether it would start now, wait for its turn, or fail."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ugro_py.cluster import Cluster
from ugro_py.queue.actions import check_submission
from ugro_py.queue.decide import decide
from ugro_py.queue.model import Waiting
from ugro_py.queue.snapshot import snapshot_of
from ugro_py.request.job import JobRequest
from ugro_py.state import Store

_NEVER = "cannot start: "


@dataclass(frozen=True)
class Forecast:
    """What would become of a job.

    Attributes:
        waits: why it would wait; empty where it would not, as far as the queue knows.
        fails: why it would fail without having started; empty where it would not.
        gpus: how many GPUs it gets at the most where it asks for no number and a quota says so; None for any number.
    """

    waits: str = ""
    fails: str = ""
    gpus: int | None = None


def forecast(store: Store, cluster: Cluster, request: JobRequest, user: str, group: str | None) -> Forecast:
    """Return what the queue would say now of a checked request of `user`; nothing is recorded.

    What the nodes have is not judged here: a store that has not seen all of them knows less than they do.

    Raises:
        NotFoundError: it is to run after a job that does not exist.
        RightsError: the quota of jobs that have not ended is used up.
    """
    check_submission(store, user, group, request.after)
    now, limit = time.time(), request.time_limit_s
    job = Waiting(
        request.name, user, request.priority, request.selection, now, group,
        held_by=user if request.hold else None, after=request.after,
        time_limit_s=None if limit is None else limit + cluster.settings.grace_s,
    )  # fmt: skip
    snapshot = snapshot_of(store, cluster, now, (job,))
    decision = decide(snapshot)
    fails = next((fail.reason for fail in decision.fail if fail.job == job.job), "")
    reason = decision.reasons.get(job.job, "")
    waits = "" if fails or reason.startswith(_NEVER) else reason
    limited = any(account in snapshot.quotas for account in (("user", user), ("group", group)))
    ranks = next((start.placements for start in decision.start if start.job == job.job), ())
    return Forecast(waits, fails, len(ranks) if ranks and limited and request.gpus is None else None)
