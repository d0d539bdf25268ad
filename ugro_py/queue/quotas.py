"""Quotas while a decision is made: what users and groups hold, and whether one more job of theirs may start."""

from __future__ import annotations

from collections.abc import Callable

from ugro_py.queue import words
from ugro_py.queue.model import Account, Quota, Snapshot, Waiting
from ugro_py.scheduler import Request


class Quotas:
    """The quotas of a snapshot; false where there are none.

    Who waits for a quota is not passed by smaller jobs under the same quota: else a large one would wait for ever.
    A job larger than the quota itself, which can never start, holds up nobody.

    Args:
        snapshot: the quotas, and what runs.
        possible: says whether what a job asks for could start with all GPUs free; if not it holds up nobody.
    """

    def __init__(self, snapshot: Snapshot, possible: Callable[[Request], bool]) -> None:
        self._possible = possible
        self._quotas = snapshot.quotas
        self._used: dict[Account, int] = {}
        self._kept: dict[Account, tuple[int, str]] = {}
        self._waiting: dict[Account, str] = {}
        self._of: dict[tuple[str, str | None], tuple[tuple[Account, Quota], ...]] = {}
        if self._quotas:
            for job in snapshot.running:
                for account in _accounts(job.user, job.group):
                    self._used[account] = self._used.get(account, 0) + len(job.gpus)

    def __bool__(self) -> bool:
        return bool(self._quotas)

    def limits(self, job: Waiting) -> tuple[tuple[Account, Quota], ...]:
        """Return the quotas that hold for a job."""
        key = (job.user, job.group)
        found = self._of.get(key)
        if found is None:
            mine = _accounts(job.user, job.group)
            found = self._of[key] = tuple((one, self._quotas[one]) for one in mine if one in self._quotas)
        return found

    def refuses(self, job: Waiting, asked: int) -> str:
        """Return which quota keeps a job that needs so many GPUs at least from starting; empty if none does."""
        for account, limits in self.limits(job):
            if account in self._waiting:
                return self._waiting[account]
            used = self._used.get(account, 0)
            kept, first = self._kept.get(account, (0, ""))
            if limits.gpu_hours_week is not None and limits.used_hours >= limits.gpu_hours_week:
                return words.hours_quota(account, limits)
            if limits.max_gpus is not None and used + kept + asked > limits.max_gpus:
                text = words.gpu_quota(account, limits.max_gpus, used, asked)
                if asked <= limits.max_gpus and self._possible(job.request):
                    self._waiting[account] = f"{text}, and job {job.job} is before it"
                return f"{text}, and job {first} is before it" if kept and asked <= limits.max_gpus else text
        return ""

    def room(self, job: Waiting) -> int | None:
        """Return how many more GPUs the job's user and group may use; None for any number."""
        rooms = [
            limits.max_gpus - self._used.get(account, 0) - self._kept.get(account, (0, ""))[0]
            for account, limits in self.limits(job)
            if limits.max_gpus is not None
        ]
        return min(rooms, default=None)

    def took(self, job: Waiting, count: int) -> None:
        """Count the GPUs that a job was given."""
        if self._quotas:
            for account in _accounts(job.user, job.group):
                self._used[account] = self._used.get(account, 0) + count

    def keeps(self, job: Waiting) -> None:
        """Keep what the first in line will use of its quotas: later jobs must not use it up before."""
        if self._quotas:
            for account in _accounts(job.user, job.group):
                self._kept[account] = (self._kept.get(account, (0, ""))[0] + asked(job.request), job.job)


def asked(request: Request) -> int:
    """Return how many GPUs a job needs at least."""
    return request.gpus or request.nodes or 1


def _accounts(user: str, group: str | None) -> tuple[Account, ...]:
    return (("user", user),) if group is None else (("user", user), ("group", group))
