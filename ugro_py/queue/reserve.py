"""The GPUs kept for the first in line, and who may go ahead without delaying it (EASY back-fill).

A job that does not fit now gets a reservation if it is the first in line for the GPUs it may have. `starts` is when it
fits at the earliest, if every running job with a time limit runs to that limit and every job without one ended right
now. A later job may start now on GPUs that it may have too if

- it surely ends before `starts`: then it is gone before the first in line could begin, whenever the others end; or
- all that the first waits for has time limits, and it still fits at `starts` without what the later job takes.

See A. W. Mu'alem, D. G. Feitelson: Utilization, predictability, workloads, and user runtime estimates in scheduling the
IBM SP2 with backfilling (IEEE TPDS 12:6, 2001).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ugro_py.queue.filters import Filter
from ugro_py.queue.grid import Free, Grid, Taken
from ugro_py.queue.model import Waiting


@dataclass(frozen=True, slots=True)
class Holder:
    """A job that holds GPUs: those of them that others may have when it ends, by node and as one number."""

    job: str
    taken: Taken
    bits: int
    ends_at: float | None


class Reservation:
    """The GPUs kept for one job.

    Attributes:
        job: the job.
        allowed: the GPUs it may have.
        starts: when it fits at the earliest.
        latest: when it fits at the latest, as far as time limits promise it.
    """

    def __init__(self, job: Waiting, allowed: Filter, free: Free, holders: Sequence[Holder], now: float) -> None:
        self.job = job
        self.allowed = allowed
        theirs = [holder for holder in holders if holder.bits & allowed.bits]
        known = sorted(
            ((max(now, holder.ends_at), holder) for holder in theirs if holder.ends_at is not None),
            key=lambda end: (end[0], end[1].job),
        )
        unknown = [(now, holder) for holder in theirs if holder.ends_at is None]
        grid = free.grid
        self._shadow: Free | None = None
        self.plan = allowed.bits
        self.latest: float | None
        found = self._search(free.copy(), [*unknown, *known], now)
        assert found is not None, "whoever asks made sure that the job fits on what can be free"
        self.starts = found[0]
        if unknown:
            pessimistic = self._search(free.copy(), known, now)
            self.latest = pessimistic[0] if pessimistic else None
        else:
            self.latest, self._shadow, taken = found
            self.plan = grid.bits_of(taken)

    def _search(
        self, scratch: Free, ends: Sequence[tuple[float, Holder]], now: float
    ) -> tuple[float, Free, Taken] | None:
        """Return when the job first fits if jobs end in this order, what is free then, and what it gets of it."""
        request, bits = self.job.request, self.allowed.bits
        missing = (request.gpus or request.nodes or 1) - (scratch.bits() & bits).bit_count()
        at = now
        for place, (ended, holder) in enumerate(ends):
            at = ended
            scratch.give(holder.taken)
            missing -= (holder.bits & bits).bit_count()
            more = place + 1 < len(ends) and ends[place + 1][0] == at
            if missing > 0 or more:
                continue
            taken = scratch.choose(request, self.allowed)
            if taken is not None:
                return at, scratch, taken
        return None

    def allows(self, taken: Taken, bits: int, ends: float | None) -> bool:
        """Return whether a job that ends then (None: nobody knows) may take these GPUs now."""
        if not bits & self.allowed.bits or (ends is not None and ends <= self.starts):
            return True
        if self._shadow is None:
            return False
        self._shadow.take(taken)
        fits = self._shadow.choose(self.job.request, self.allowed) is not None
        self._shadow.give(taken)
        return fits

    def note(self, taken: Taken, bits: int, ends: float | None) -> None:
        """Take into account what another job was given that `allows` let through."""
        if self._shadow is None or not bits & self.allowed.bits or (ends is not None and ends <= self.starts):
            return
        self._shadow.take(taken)
        plan = self._shadow.choose(self.job.request, self.allowed)
        assert plan is not None
        self.plan = self._shadow.grid.bits_of(plan)


class Kept:
    """All reservations of a decision. They never share a GPU: who is not the first for all its GPUs has none."""

    AT_MOST = 8

    def __init__(self, free: Free) -> None:
        self.all: list[Reservation] = []
        self._free = free
        self._spare: dict[int, Free] = {}
        self._before: dict[float, int] = {}
        self.refused = False
        """Whether the last job was not placed although it would fit on what is free."""

    def add(self, reservation: Reservation) -> None:
        """Keep the GPUs of one more job."""
        self.all.append(reservation)
        self._spare.clear()
        self._before.clear()

    def first_for(self, allowed: Filter) -> Reservation | None:
        """Return the reservation that is ahead of a job that may have these GPUs."""
        for reservation in self.all:
            if reservation.allowed.bits & allowed.bits:
                return reservation
        return self.all[0] if len(self.all) >= self.AT_MOST else None

    def before(self, ends: float | None) -> int:
        """Return which reservations a job that ends then surely ends before, as bits."""
        if ends is None or not self.all:
            return 0
        known = self._before.get(ends)
        if known is None:
            known = sum(1 << number for number, reservation in enumerate(self.all) if ends <= reservation.starts)
            self._before[ends] = known
        return known

    def place(self, job: Waiting, allowed: Filter, ends: float | None) -> Taken | None:
        """Return GPUs that the job may have now without delaying anyone with a reservation; None if there are none."""
        taken = self._free.choose(job.request, allowed)
        self.refused = taken is not None
        if taken is None or not self.all or self._allow(taken, ends):
            return taken
        taken = self._spare_for(self.before(ends)).choose(job.request, allowed)
        return taken if taken is not None and self._allow(taken, ends) else None

    def _spare_for(self, before: int) -> Free:
        """Return what is free and kept for nobody, for a job that ends before some of the reservations."""
        spare = self._spare.get(before)
        if spare is None:
            kept = 0
            for number, reservation in enumerate(self.all):
                kept |= 0 if before >> number & 1 else reservation.plan
            spare = self._spare[before] = self._free.without(kept)
        return spare

    def _allow(self, taken: Taken, ends: float | None) -> bool:
        bits = self._free.grid.bits_of(taken)
        return all(reservation.allows(taken, bits, ends) for reservation in self.all)

    def took(self, taken: Taken, ends: float | None) -> None:
        """Take into account that a job was given these GPUs."""
        bits = self._free.grid.bits_of(taken)
        for reservation in self.all:
            before = reservation.plan
            reservation.note(taken, bits, ends)
            if reservation.plan != before:
                self._spare.clear()
        for spare in self._spare.values():
            spare.take(taken)


def holder(grid: Grid, job: str, uuids: Iterable[str], usable: Free, ends_at: float | None) -> Holder:
    """Return a job that holds GPUs, with those that others may have when it ends."""
    by_node: dict[int, int] = {}
    for uuid in uuids:
        place = grid.where.get(uuid)
        if place is not None:
            by_node[place[0]] = by_node.get(place[0], 0) | place[1]
    taken = tuple((number, bits & usable.free[number]) for number, bits in by_node.items())
    return Holder(job, taken, grid.bits_of(taken), ends_at)
