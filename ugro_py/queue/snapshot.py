"""The moment a decision is made for, read from the store: `snapshot_of`."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from weakref import WeakKeyDictionary

from ugro_py.cluster import Cluster
from ugro_py.errors import UgroError
from ugro_py.queue.model import Account, Quota, Running, Snapshot, Waiting
from ugro_py.request.job import JobRequest
from ugro_py.scheduler import Request
from ugro_py.state import Controller, Store
from ugro_py.state._queue import HolderRow, QueuedRow

_WEEK_S = 7 * 86400.0
_FORGOTTEN = 10  # half-lives after which use counts for nothing: less than a thousandth is left
_SETTLED_S = 60.0
# A job that was only just created gets its controller, or its agent, in the same breath.
_NEWBORN_S = 5.0

_requests: dict[tuple[str, int], Request] = {}
_MOST_REQUESTS = 50_000


def snapshot_of(store: Store, cluster: Cluster, now: float, more: Collection[Waiting] = ()) -> Snapshot:
    """Return what a decision at `now` (unix seconds) depends on. Costs one query where nothing waits.

    `more` are jobs that are not in the store, to be decided on as if they waited too.

    Raises:
        StateError: the database cannot be used.
    """
    queued = [row for row in store.queued() if not row.stop_requested]
    if not queued and not more:
        return Snapshot(now)
    names = tuple(node.name for node in cluster.nodes)
    holders = store.holders()
    spans = store.spans()
    waiting = (*_waiting(store, queued, spans, cluster.settings.grace_s, now), *more)
    predecessors = {name for job in waiting for name in job.after}
    users = {job.user for job in waiting}
    half_life_s = cluster.settings.fair_share_half_life_h * 3600
    return Snapshot(
        now,
        names,
        tuple(store.gpus(names)),
        waiting,
        _running(store, holders, cluster.settings.grace_s, now),
        unschedulable=store.unschedulable(),
        unusable=store.unusable_gpus(),
        usage=decayed_usage(store, half_life_s, now) if len(users) > 1 else {},
        quotas=quotas_of(store, now),
        ended=store.ended(predecessors) if predecessors else {},
        preemption=cluster.settings.preemption,
    )


def _waiting(
    store: Store,
    queued: Collection[QueuedRow],
    spans: Mapping[int, list[tuple[datetime, datetime | None]]],
    grace_s: float,
    now: float,
) -> tuple[Waiting, ...]:
    requests = _requests_of(store, queued)
    queued = [row for row in queued if row.id in requests]
    lease = store.lease()
    agent = lease is not None and lease.held
    alive: dict[Controller, bool] = {}
    jobs = []
    for row in queued:
        queued_at = since(row, spans)
        limit = row.time_limit_s
        if limit is not None:
            limit = max(0.0, limit - _seconds(spans.get(row.id, ()), now)) + grace_s
        blocked = "" if agent or now - queued_at < _NEWBORN_S or _lives(row.controller, alive) else _NOBODY
        jobs.append(
            Waiting(
                row.name, row.user, row.priority, requests[row.id], queued_at, row.group, row.position, row.held_by,
                row.after, limit, blocked,
            )
        )  # fmt: skip
    return tuple(jobs)


def since(row: QueuedRow, spans: Mapping[int, list[tuple[datetime, datetime | None]]]) -> float:
    """Return since when a job waits, in unix seconds.

    Who was stopped for another job waits from then on: else it would be ahead of that one at once.
    """
    ran = [end or begin for begin, end in spans.get(row.id, ())]
    return max([row.created_at, *ran]).timestamp()


_NOBODY = "its `ugro launch` has ended and no agent runs: start `ugro agent`"


def _lives(controller: Controller | None, alive: dict[Controller, bool]) -> bool:
    """Return whether a process is there to start the job; one of another host counts as there."""
    if controller is None:
        return False
    if controller not in alive:
        alive[controller] = controller.is_alive() is not False
    return alive[controller]


def _running(store: Store, holders: list[HolderRow], grace_s: float, now: float) -> tuple[Running, ...]:
    limited = [row.id for row in holders if row.time_limit_s is not None]
    spans = store.spans(limited) if limited else {}
    jobs = []
    for row in holders:
        ends = None
        if row.time_limit_s is not None:
            ends = now + max(0.0, row.time_limit_s - _seconds(spans.get(row.id, ()), now)) + grace_s
        jobs.append(
            Running(
                row.name, row.user, row.priority, row.gpus, row.since.timestamp(), row.group, ends, row.stopping
            )
        )  # fmt: skip
    return tuple(jobs)


def _seconds(spans: Iterable[tuple[datetime, datetime | None]], now: float) -> float:
    """Return how long attempts have run, all together."""
    return sum((end.timestamp() if end else now) - begin.timestamp() for begin, end in spans)


def _requests_of(store: Store, queued: Collection[QueuedRow]) -> dict[int, Request]:
    """Return what the jobs ask for. It never changes, so it is read and understood once.

    A job whose request makes no sense (its row was damaged, or is another version's) has failed: it would keep every
    other one waiting.
    """
    place = str(store.database.url)
    unknown = [row.id for row in queued if (place, row.id) not in _requests]
    if unknown:
        if len(_requests) + len(unknown) > _MOST_REQUESTS:
            _requests.clear()
            unknown = [row.id for row in queued]
        found = store.requests(unknown)
        for row in queued:
            if row.id not in found:
                continue  # known, or removed meanwhile
            try:
                _requests[place, row.id] = _understood(found[row.id])
            except (UgroError, TypeError, ValueError, KeyError, AttributeError) as error:
                store.set_job(row.name, "failed", f"its request in the database makes no sense: {error}", 2)
    return {row.id: _requests[place, row.id] for row in queued if (place, row.id) in _requests}


def _understood(values: object) -> Request:
    """Return what a job asks for; raises what it may where it is not what a request must be."""
    if not isinstance(values, Mapping):
        raise TypeError(f"it is {type(values).__name__}")
    request = JobRequest.from_dict(values).selection
    for name in ("nodes", "gpus", "min_vram_gb", "max_vram_gb"):
        value = getattr(request, name)
        if value is None:
            continue
        number = isinstance(value, int) or (isinstance(value, float) and name.endswith("_gb"))
        if not number or isinstance(value, bool) or not 0 <= value < 1e9:
            raise ValueError(f"{name} is {value!r:.40}")
    return request


def quotas_of(store: Store, now: float) -> dict[Account, Quota]:
    """Return the quotas of users and groups that limit what they may use, with the hours used in the last week."""
    limited = [row for row in store.accounts() if row.max_gpus is not None or row.gpu_hours_week is not None]
    hours: dict[Account, float] = {}
    if any(row.gpu_hours_week is not None for row in limited):
        until = datetime.fromtimestamp(now, UTC)
        for used in store.usage(until - timedelta(seconds=_WEEK_S), until):
            for account in (("user", used.user), ("group", used.group or "")):
                hours[account] = hours.get(account, 0.0) + used.gpu_hours
    return {
        (row.kind, row.name): Quota(row.max_gpus, row.gpu_hours_week, hours.get((row.kind, row.name), 0.0))
        for row in limited
    }


class _Settled:
    """What was used up to a time, as it counts then: it only decays from there on."""

    def __init__(self, half_life_s: float, until: float) -> None:
        self.half_life_s = half_life_s
        self.until = until
        self.used: dict[str, float] = {}


_settled: WeakKeyDictionary[Store, _Settled] = WeakKeyDictionary()


def decayed_usage(store: Store, half_life_s: float, now: float) -> dict[str, float]:
    """Return the GPU seconds that each user has used, those of one half-life ago counting half.

    What has ended a while ago is summed up once in a process.
    """
    known = _settled.get(store)
    if known is None or known.half_life_s != half_life_s or known.until > now:
        known = _settled[store] = _Settled(half_life_s, now - _FORGOTTEN * half_life_s)
    settled = now - _SETTLED_S
    old = {user: amount * _left(now - known.until, half_life_s) for user, amount in known.used.items()}
    recent: dict[str, float] = {}
    for user, begin, end in store.allocated(datetime.fromtimestamp(known.until, UTC)):
        until = min(now, end.timestamp()) if end else now
        amount = _decayed(begin.timestamp(), until, now, half_life_s)
        which = old if end and end.timestamp() <= settled else recent
        which[user] = which.get(user, 0.0) + amount
    if settled > known.until:
        known.used = {user: amount / _left(now - settled, half_life_s) for user, amount in old.items()}
        known.until = settled
    return {user: old.get(user, 0.0) + recent.get(user, 0.0) for user in sorted(old.keys() | recent.keys())}


def _left(age_s: float, half_life_s: float) -> float:
    return float(0.5 ** (age_s / half_life_s))


def _decayed(begin: float, end: float, now: float, half_life_s: float) -> float:
    """Return the seconds between two times, each weighed by its age."""
    if end <= begin:
        return 0.0
    return half_life_s / math.log(2) * (_left(now - end, half_life_s) - _left(now - begin, half_life_s))
