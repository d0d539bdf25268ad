"""Sets of nodes as integers, one per count of free GPUs: which nodes a gang gets, and how many GPUs of each."""

from __future__ import annotations

from collections.abc import Sequence


def members(bits: int, at_most: int | None = None) -> list[int]:
    """Return the numbers of the bits that are set, lowest first."""
    found: list[int] = []
    while bits and (at_most is None or len(found) < at_most):
        low = bits & -bits
        found.append(low.bit_length() - 1)
        bits ^= low
    return found


def set_of(numbers: list[int], size: int) -> int:
    """Return the set of these numbers, in time that does not grow with their square."""
    bits = bytearray((size + 7) // 8)
    for number in numbers:
        bits[number >> 3] |= 1 << (number & 7)
    return int.from_bytes(bits, "little")


def first_nodes(sets: list[int], wanted: int, size: int | None) -> list[tuple[int, int]] | None:
    """Return the first nodes, as few as possible or `size`, that have `wanted` free GPUs together: (node, its free)."""
    if size is None:
        for_one = 0
        for of_count in sets[wanted:]:
            for_one |= of_count
        if for_one:
            return [((for_one & -for_one).bit_length() - 1, wanted)]
        size = _fewest(sets, wanted)
    if size is None or wanted < size or _best(sets, size) < wanted:
        return None
    chosen: list[tuple[int, int]] = []
    for still in range(size - 1, -1, -1):
        # Of the nodes with the same count the first leaves the most behind it: if it will not do, none will.
        firsts = sorted(((s & -s).bit_length() - 1, count) for count, s in enumerate(sets) if s and count)
        for number, count in firsts:
            later = [of_count >> number + 1 << number + 1 for of_count in sets]
            if count + _best(later, still) >= wanted:
                chosen.append((number, count))
                sets, wanted = later, wanted - count
                break
        else:
            return None
    return chosen


def _fewest(sets: list[int], wanted: int) -> int | None:
    """Return on how few nodes `wanted` GPUs are free; None if there are not that many."""
    size = 0
    for count in range(len(sets) - 1, 0, -1):
        here = sets[count].bit_count()
        if here * count >= wanted:
            return size - (-wanted // count)
        size += here
        wanted -= here * count
    return None


def _best(sets: list[int], size: int) -> int:
    """Return how many GPUs the `size` freest nodes have together; -1 (never enough) where there are fewer nodes."""
    total = 0
    for count in range(len(sets) - 1, 0, -1):
        here = min(size, sets[count].bit_count())
        total += here * count
        size -= here
        if not size:
            return total
    return total if not size else -(1 << 60)


def spread(wanted: int, room: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return `wanted` GPUs spread over nodes (node, its room) as evenly as their room allows, earlier nodes first."""
    if len(room) == 1:
        return [(room[0][0], wanted)]
    level, left = 0, wanted
    while True:
        open_nodes = sum(1 for _, free in room if free > level)
        if not open_nodes or left < open_nodes:
            break
        step = max(1, min(left // open_nodes, min(free for _, free in room if free > level) - level))
        level, left = level + step, left - step * open_nodes
    parts = []
    for number, free in room:
        extra = 1 if left and free > level else 0
        left -= extra
        parts.append((number, min(free, level) + extra))
    return parts
