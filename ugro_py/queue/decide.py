"""Which jobs start now, and why the others wait. Pure: the same snapshot always gives the same decision.

The queue is gone through once, first in line first. A job starts if all its GPUs are free (all or nothing); the first
that has to wait for its GPUs gets a reservation (`ugro_py.queue.reserve`), and who comes after starts only where that
delays no reservation. Free GPUs only become fewer on the way: what could not be placed once is not tried again.
"""

from __future__ import annotations

import gc
from typing import Any

from ugro_py.queue import words
from ugro_py.queue.filters import Filter, Filters, selection_key
from ugro_py.queue.grid import Free, Grid, Taken
from ugro_py.queue.model import BATCH, URGENT, Decision, Fail, Preempt, Running, Snapshot, Start, Waiting
from ugro_py.queue.order import ordered
from ugro_py.queue.quotas import Quotas, asked
from ugro_py.queue.reserve import Holder, Kept, Reservation, holder
from ugro_py.scheduler import Request

_EXPLAINED = 200  # of so many different requests it is said in detail what they wait for; it takes a look at every GPU


_Case = tuple[int, int | None]
"""The reservations that a job surely ends before, as bits, and how many GPUs its quota leaves (None: any number)."""


def decide(snapshot: Snapshot) -> Decision:
    """Return what is to be done now; see `Decision`."""
    if not snapshot.waiting:
        return Decision()
    collects = gc.isenabled()
    gc.disable()  # nothing here makes cycles; a look through all objects of a large snapshot is a third of the time
    try:
        return _Round(snapshot).decision()
    finally:
        if collects:
            gc.enable()


class _Round:
    """One decision in the making."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.now = snapshot.now
        self.grid = grid = Grid(snapshot.nodes, snapshot.gpus)
        self.filters = Filters(grid)
        self.exists = Free(grid, [(1 << len(row)) - 1 for row in grid.gpus])
        self.usable = self.exists.copy()
        for node in snapshot.unschedulable:
            if node in grid.number:
                self.usable.free[grid.number[node]] = 0
        for uuid in snapshot.unusable:
            self._use(self.usable, uuid)
        self.free = self.usable.copy()
        self.held: dict[str, tuple[str, float | None, bool]] = {}
        self.holders: list[Holder] = []
        self.running: dict[str, Running] = {}
        for job in snapshot.running:
            ends = self.now if job.stopping else job.ends_at
            self.running[job.job] = job
            self.holders.append(holder(grid, job.job, job.gpus, self.usable, ends))
            for uuid in job.gpus:
                self._use(self.free, uuid)
                self.held[uuid] = (job.job, job.ends_at, job.stopping)
        self.quotas = Quotas(snapshot, self._possible)
        self.kept = Kept(self.free)
        self.left = sum(bits.bit_count() for bits in self.free.free)
        self.start: list[Start] = []
        self.reasons: dict[str, str] = {}
        self.preempt: list[Preempt] = []
        self.fail: list[Fail] = []
        self.expected: dict[str, float] = {}
        self._behind: dict[Any, str] = {}
        self._kinds: dict[Any, _Kind] = {}
        self._impossibles = 0

    def _use(self, free: Free, uuid: str) -> None:
        place = self.grid.where.get(uuid)
        if place is not None:
            free.free[place[0]] &= ~place[1]

    def decision(self) -> Decision:
        line = ordered(self.snapshot)
        quotas, kinds, kept, reasons, now = self.quotas, self._kinds, self.kept, self.reasons, self.now
        for job in line:  # ten thousand times: what is the same for jobs of a kind is looked up
            request, limit = job.request, job.time_limit_s
            key = _key(request)
            kind = kinds.get(key)
            if kind is None:
                kind = kinds[key] = _Kind(request, self.filters.of(request))
            reason: str | None = None
            if job.held_by is not None or job.blocked or job.after:
                reason = self._may_not(job)
            if not reason and quotas and quotas.limits(job):
                reason = quotas.refuses(job, kind.asked)
            if not reason:
                ends = None if limit is None else now + limit
                # A job without numbers takes what there is; its user's quota is the most of it.
                capped = None if request.gpus is not None or not quotas else quotas.room(job)
                case = (kept.before(ends), capped) if self.left else None
                reason = kind.reasons.get(case)
                if reason is None:
                    reason = self._turn(job, kind, case, ends)
            if reason:
                reasons[job.job] = reason
        return Decision(
            tuple(self.start), self.reasons, tuple(self.preempt), tuple(self.fail),
            tuple([job.job for job in line]), self.expected,
        )  # fmt: skip

    def _may_not(self, job: Waiting) -> str:
        """Return why a job does not take part, whatever is free; empty if it does."""
        if job.held_by is not None:
            return f"held by {job.held_by}"
        if job.blocked:
            return job.blocked
        ended = self.snapshot.ended
        for name in job.after:
            how = ended.get(name)
            if how is not None and how != "completed":
                reason = f"job {name}, which it was to follow, " + (f"has {how}" if how else "does not exist")
                self.fail.append(Fail(job.job, reason.replace("has stopped", "was stopped")))
                return self.fail[-1].reason
        waits_for = [name for name in job.after if name not in ended]
        return f"after job{'s' if len(waits_for) > 1 else ''} {', '.join(waits_for)}" if waits_for else ""

    def _turn(self, job: Waiting, kind: _Kind, case: _Case | None, ends: float | None) -> str:
        """Start a job if its GPUs are free and it delays nobody; return why it waits otherwise."""
        fits = False
        if case is not None:
            taken = self.kept.place(job, kind.allowed, ends)
            if taken is not None and case[1] is not None:
                taken = self._cut(taken, job.request, kind.allowed, case[1], ends)
            if taken is not None:
                self._start(job, taken, ends)
                return ""
            fits = self.kept.refused
        return self._why(job, kind, fits, case)

    def _cut(self, taken: Taken, request: Request, allowed: Filter, most: int, ends: float | None) -> Taken | None:
        """Return no more GPUs than the quota leaves, for a job that takes every one it finds."""
        if sum(bits.bit_count() for _, bits in taken) <= most:
            return taken
        fewer = Request(request.nodes, most, request.include, request.exclude, request.min_vram_gb, request.max_vram_gb)
        job = Waiting("", "", 0, fewer, 0.0)
        return self.kept.place(job, allowed, ends)

    def _start(self, job: Waiting, taken: Taken, ends: float | None) -> None:
        self.start.append(Start(job.job, self.grid.placements(taken)))
        self.free.take(taken)
        self.kept.took(taken, ends)
        count = sum(bits.bit_count() for _, bits in taken)
        self.left -= count
        self.quotas.took(job, count)
        self.holders.append(Holder(job.job, taken, self.grid.bits_of(taken), ends))
        for placement in self.start[-1].placements:
            self.held[placement.gpu.uuid] = (job.job, ends, False)

    def _why(self, job: Waiting, kind: _Kind, fits: bool, case: _Case | None) -> str:
        """Return why a job that could not be placed waits; keep GPUs for it if it is the first in line for them.

        With `fits` it was not placed because that would have delayed others. Reservations are never taken back, so
        what is said of one job holds for all of its kind after it.
        """
        text = self._impossible(kind)
        if not text:
            ahead = self.kept.first_for(kind.allowed)
            if ahead is None:
                return self._reserve(job, kind.allowed)
            text = self._behind.get((ahead.job.job, fits), "")
            if not text:
                text = words.kept(ahead, self.now) if fits else words.behind(ahead)
                self._behind[ahead.job.job, fits] = text
        kind.reasons[case] = text
        return text

    def _possible(self, request: Request) -> bool:
        return not self._impossible(self._kinds[_key(request)])

    def _impossible(self, kind: _Kind) -> str:
        """Return why a job of the kind could not start even if every job ended; empty if it could."""
        if kind.impossible is None:
            kind.impossible = self._never(kind.request)
            self._impossibles += 1
        return kind.impossible

    def _never(self, request: Request) -> str:
        allowed = self.filters.of(request)
        if allowed.error:
            return f"cannot start: {allowed.error}"
        if self.usable.choose(request, allowed) is not None:
            return ""
        if self.exists.choose(request, allowed) is None:
            exist = allowed.bits.bit_count()
            return f"cannot start: asks for {words.asks(request)}; it may use {exist} GPU{'' if exist == 1 else 's'}"
        if self._impossibles > _EXPLAINED:
            return f"waits for {words.asks(request)}"
        return words.waits(request, allowed, self.grid, self.snapshot, self.held)

    def _reserve(self, job: Waiting, allowed: Filter) -> str:
        victims = self._victims(job, allowed) if self.snapshot.preemption and job.priority >= URGENT else []
        for victim in victims:
            self.preempt.append(Preempt(victim.job, job.job))
        names = {victim.job for victim in victims}
        holders = [Holder(h.job, h.taken, h.bits, self.now) if h.job in names else h for h in self.holders]
        reservation = Reservation(job, allowed, self.free, holders, self.now)
        self.kept.add(reservation)
        self.quotas.keeps(job)
        if reservation.latest is not None:
            self.expected[job.job] = reservation.latest
        reason = words.waits(job.request, allowed, self.grid, self.snapshot, self.held)
        return f"{reason}; stops {', '.join(sorted(names))} for it" if names else reason

    def _victims(self, job: Waiting, allowed: Filter) -> list[Running]:
        """Return the batch jobs to stop for an urgent one, the youngest first, none too many; none if that won't do."""
        scratch = self.free.copy()
        of = {held.job: held for held in self.holders}
        candidates = []
        for running in self.running.values():
            if running.stopping:
                scratch.give(of[running.job].taken)  # on its way out already
            elif running.priority <= BATCH and of[running.job].bits & allowed.bits:
                candidates.append(running)
        if scratch.choose(job.request, allowed) is not None:
            return []
        candidates.sort(key=lambda running: (-running.since, running.job))
        chosen: list[Running] = []
        for running in candidates:
            chosen.append(running)
            scratch.give(of[running.job].taken)
            if scratch.choose(job.request, allowed) is not None:
                break
        else:
            return []
        for running in reversed(chosen[:-1]):  # the last one was needed: without it the job did not fit
            scratch.take(of[running.job].taken)
            if scratch.choose(job.request, allowed) is None:
                scratch.give(of[running.job].taken)
            else:
                chosen.remove(running)
        return chosen


class _Kind:
    """What is known of all jobs that ask for the same.

    Attributes:
        request: what they ask for; `asked` is how many GPUs that is at least, `allowed` the GPUs they may have.
        reasons: why they wait, by case; None is the case that nothing is free.
        impossible: why they could not start even if every job ended; None while nobody has asked.
    """

    __slots__ = ("allowed", "asked", "impossible", "reasons", "request")

    def __init__(self, request: Request, allowed: Filter) -> None:
        self.request = request
        self.allowed = allowed
        self.asked = asked(request)
        self.reasons: dict[_Case | None, str] = {}
        self.impossible: str | None = None


def _key(request: Request) -> tuple[Any, ...]:
    """Return what tells whether two jobs ask for the same."""
    if not request.include and not request.exclude:
        return (request.gpus, request.nodes, request.min_vram_gb, request.max_vram_gb)
    return (request.gpus, request.nodes, selection_key(request))
