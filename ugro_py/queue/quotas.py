"""Quotas while a decision is made: what users and groups hold, and whether one more job of theirs may start."""

from __future__ import annotations

from collections.abc import Callable

from ugro_py.queue import words
from ugro_py.queue.model import Account, Snapshot, Waiting


class Quotas:
    """The quotas of a snapshot; false where there are none.

    Who waits for a quota is not passed by smaller jobs under the same quota: else a large one would wait for ever.
    A job larger than the quota itself, which can never start, holds up nobody.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._quotas = snapshot.quotas
        self._used: dict[Account, int] = {}
        self._kept: dict[Account, tuple[int, str]] = {}
        self._waiting: dict[Account, str] = {}
        if self._quotas:
            for job in snapshot.running:
                for account in _accounts(job.user, job.group):
                    self._used[account] = self._used.get(account, 0) + len(job.gpus)

    def __bool__(self) -> bool:
        return bool(self._quotas)

    def refuses(self, job: Waiting, possible: Callable[[], bool]) -> str:
        """Return which quota keeps the job from starting; empty if none does.

        Args:
            job: the job whose turn it is.
            possible: whether the job could start with all GPUs free; if not it holds up nobody.
        """
        asked = _asked(job)
        for account in _accounts(job.user, job.group):
            limits = self._quotas.get(account)
            if limits is None:
                continue
            if account in self._waiting:
                return self._waiting[account]
            used = self._used.get(account, 0)
            kept, first = self._kept.get(account, (0, ""))
            if limits.gpu_hours_week is not None and limits.used_hours >= limits.gpu_hours_week:
                return words.hours_quota(account, limits)
            if limits.max_gpus is not None and used + kept + asked > limits.max_gpus:
                text = words.gpu_quota(account, limits.max_gpus, used, asked)
                if asked <= limits.max_gpus and possible():
                    self._waiting[account] = f"{text}, and job {job.job} is before it"
                return f"{text}, and job {first} is before it" if kept and asked <= limits.max_gpus else text
        return ""

    def room(self, job: Waiting) -> int | None:
        """Return how many more GPUs the job's user and group may use; None for any number."""
        rooms = [
            limits.max_gpus - self._used.get(account, 0) - self._kept.get(account, (0, ""))[0]
            for account in _accounts(job.user, job.group)
            if (limits := self._quotas.get(account)) is not None and limits.max_gpus is not None
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
                self._kept[account] = (self._kept.get(account, (0, ""))[0] + _asked(job), job.job)


def _asked(job: Waiting) -> int:
    """Return how many GPUs the job needs at least."""
    return job.request.gpus or job.request.nodes or 1


def _accounts(user: str, group: str | None) -> tuple[Account, ...]:
    return (("user", user),) if group is None else (("user", user), ("group", group))
