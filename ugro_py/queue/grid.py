"""The GPUs of a cluster as bits, so that ten thousand jobs can be tried on a thousand nodes in a blink.

`Grid` is what exists, `Free` which of it is free. `Free.choose` takes the same GPUs as
`ugro_py.scheduler.place`, which says what a request means; tests hold the two to each other.

A set of nodes is an integer with bit i for node i; for every count of free GPUs there is such a set, so that "the first
node with four free GPUs" is the lowest bit of a few integers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ugro_py.queue.counting import first_nodes, members, set_of, spread
from ugro_py.scheduler import Gpu, Placement, Request

if TYPE_CHECKING:
    from ugro_py.queue.filters import Filter

Taken = tuple[tuple[int, int], ...]
"""GPUs of a gang: (node, bits of its GPUs), in node order."""


class Grid:
    """The GPUs that exist. A GPU that two nodes report belongs to the first."""

    def __init__(self, nodes: Sequence[str], gpus: Iterable[Gpu]) -> None:
        self.nodes = nodes
        self.number = {node: number for number, node in enumerate(nodes)}
        rows: list[list[Gpu]] = [[] for _ in nodes]
        for gpu in gpus:
            number = self.number.get(gpu.node)
            if number is not None:
                rows[number].append(gpu)
        self.where: dict[str, tuple[int, int]] = {}
        self.classes: list[dict[tuple[str, float | None], int]] = []
        self.first: list[int] = []
        self.gpus = rows
        self.max = 0
        total = 0
        for number, row in enumerate(rows):
            row.sort(key=lambda gpu: (gpu.index, gpu.uuid))
            if any(gpu.uuid in self.where for gpu in row):
                row[:] = [gpu for gpu in row if gpu.uuid not in self.where]
            classes: dict[tuple[str, float | None], int] = {}
            for place, gpu in enumerate(row):
                self.where[gpu.uuid] = (number, 1 << place)
                kind = (gpu.kind, gpu.vram_gb)
                classes[kind] = classes.get(kind, 0) | 1 << place
            self.classes.append(classes)
            self.first.append(total)
            total += len(row)
            self.max = max(self.max, len(row))

    def mask(self, number: int, key: frozenset[Any]) -> int:
        """Return the bits of a node's GPUs of these kinds and sizes."""
        bits = 0
        for kind, of_kind in self.classes[number].items():
            if kind in key:
                bits |= of_kind
        return bits

    def bits_of(self, taken: Taken) -> int:
        """Return GPUs numbered through the cluster."""
        bits = 0
        for number, here in taken:
            bits |= here << self.first[number]
        return bits

    def placements(self, taken: Taken) -> tuple[Placement, ...]:
        """Return the ranks on these GPUs."""
        found: list[Placement] = []
        for number, bits in taken:
            row, node = self.gpus[number], self.nodes[number]
            for local, place in enumerate(members(bits)):
                found.append(Placement(len(found), node, local, row[place]))
        return tuple(found)


class _Counts:
    """How many GPUs of some kinds are free on each node, and the nodes by that count."""

    __slots__ = ("allowed", "counts", "sets", "total")

    def __init__(self, grid: Grid, key: frozenset[Any], free: list[int]) -> None:
        self.allowed = [grid.mask(number, key) for number in range(len(grid.nodes))]
        self.counts = [(bits & allowed).bit_count() for bits, allowed in zip(free, self.allowed, strict=True)]
        by_count: list[list[int]] = [[] for _ in range(grid.max + 1)]
        for number, count in enumerate(self.counts):
            by_count[count].append(number)
        self.sets = [set_of(numbers, len(grid.nodes)) for numbers in by_count]
        self.total = sum(self.counts)

    def update(self, number: int, free: int) -> None:
        old, new = self.counts[number], (free & self.allowed[number]).bit_count()
        if old != new:
            self.sets[old] ^= 1 << number
            self.sets[new] |= 1 << number
            self.counts[number] = new
            self.total += new - old


class Free:
    """Which GPUs are free: at first those given, numbered by node."""

    def __init__(self, grid: Grid, free: Iterable[int]) -> None:
        self.grid = grid
        self.free = list(free)
        self._counts: dict[frozenset[Any], _Counts] = {}

    def copy(self) -> Free:
        """Return the same GPUs, to be tried on."""
        return Free(self.grid, self.free)

    def bits(self) -> int:
        """Return the free GPUs, numbered through the cluster."""
        return self.grid.bits_of(tuple(enumerate(self.free)))

    def without(self, bits: int) -> Free:
        """Return the free GPUs that are not among these, numbered through the cluster."""
        first = self.grid.first
        return Free(self.grid, [free & ~(bits >> start) for free, start in zip(self.free, first, strict=True)])

    def take(self, taken: Taken) -> None:
        """Mark GPUs as used."""
        for number, bits in taken:
            self._set(number, self.free[number] & ~bits)

    def give(self, taken: Iterable[tuple[int, int]]) -> None:
        """Mark GPUs as free."""
        for number, bits in taken:
            self._set(number, self.free[number] | bits)

    def _set(self, number: int, free: int) -> None:
        self.free[number] = free
        for counts in self._counts.values():
            counts.update(number, free)

    def choose(self, request: Request, allowed: Filter) -> Taken | None:
        """Return the GPUs that `scheduler.place` gives the job; None where it cannot be placed on what is free."""
        if allowed.error:
            return None
        counts = self._counts.get(allowed.key)
        if counts is None:
            counts = self._counts[allowed.key] = _Counts(self.grid, allowed.key, self.free)
        wanted, size = request.gpus, request.nodes
        if (wanted or size or 1) > counts.total:
            return None
        sets = counts.sets
        if allowed.nodes is not None:
            sets = [of_count & allowed.nodes for of_count in sets]
            for number, only in allowed.only.items():
                count = (self.free[number] & counts.allowed[number] & only).bit_count()
                sets[counts.counts[number]] &= ~(1 << number)
                sets[count] |= 1 << number
        if wanted is not None:
            room = first_nodes(sets, wanted, size)
            return None if room is None else self._lowest(spread(wanted, room), counts, allowed)
        some = 0
        for of_count in sets[1:]:
            some |= of_count
        if some.bit_count() < (size or 1) or (size is None and not self._named_free(request, counts, allowed)):
            return None
        every = [(number, self.grid.max) for number in members(some, size)]
        return self._lowest(every, counts, allowed)

    def _lowest(self, parts: Iterable[tuple[int, int]], counts: _Counts, allowed: Filter) -> Taken:
        """Return the first free GPUs, that many of each node."""
        taken = []
        for number, count in parts:
            left = self.free[number] & counts.allowed[number] & allowed.only.get(number, -1)
            bits = left
            for _ in range(min(count, left.bit_count())):
                left &= left - 1
            taken.append((number, bits ^ left))
        return tuple(taken)

    def _named_free(self, request: Request, counts: _Counts, allowed: Filter) -> bool:
        """Return whether GPUs named one by one are all free, and every node named has a free one."""
        for name, indexes in request.include.items():
            number = self.grid.number[name]
            may = counts.allowed[number] & allowed.only.get(number, -1)
            if allowed.nodes is not None and not allowed.nodes >> number & 1:
                continue
            if not may:
                if not any(kind[0] == allowed.kind for kind in self.grid.classes[number]):
                    return False
                continue
            free = self.free[number] & may
            if free != may if indexes else not free:
                return False
        return True
