"""Who gets which GPU: a request and the free GPUs in, ranks out. Pure: no database, no network.

The same request on the same cluster always gives the same ranks, so that a plan shown by
`--dry-run` is the plan that runs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ugro_py.display import counted
from ugro_py.errors import AllocationError, UsageError
from ugro_py.names import check_name

_INDEXES = re.compile(r"[0-9]{1,4}(,[0-9]{1,4})*")
_USABLE_VRAM = 0.92

Selection = Mapping[str, tuple[int, ...] | None]
"""Node name -> indexes of its GPUs, or None for all of them."""


@dataclass(frozen=True)
class Gpu:
    """One GPU, or one CPU slot (`kind` "cpu"). `vram_gb` is GB, None where unknown."""

    uuid: str
    node: str
    index: int
    kind: Literal["cuda", "cpu"]
    name: str
    vram_gb: float | None


@dataclass(frozen=True)
class Request:
    """How many GPUs a job wants and from where; see `place` for what the combinations mean.

    With `min_vram_gb` or `max_vram_gb` only GPUs count whose memory (GB) is known and in these bounds, see `fits_vram`.
    """

    nodes: int | None = None
    gpus: int | None = None
    include: Selection = field(default_factory=dict)
    exclude: Selection = field(default_factory=dict)
    min_vram_gb: float | None = None
    max_vram_gb: float | None = None


@dataclass(frozen=True)
class Placement:
    """One rank of a job: which GPU of which node it gets, and its place among that node's ranks."""

    rank: int
    node: str
    local_rank: int
    gpu: Gpu


def fits_vram(request: Request, vram_gb: float | None) -> bool:
    """Return whether a GPU of that memory (GB) may be given to the job.

    The bounds are sizes as cards are sold: ECC and the driver keep up to 8 % of them (an L4 of 24 GB shows 22.5).
    """
    if request.min_vram_gb is None and request.max_vram_gb is None:
        return True
    if vram_gb is None:
        return False
    low, high = request.min_vram_gb or 0.0, request.max_vram_gb
    return vram_gb >= low * _USABLE_VRAM and (high is None or vram_gb <= high)


def vram_words(request: Request) -> str:
    """Return the bounds on the memory of GPUs, in words; empty where there are none."""
    low, high = request.min_vram_gb, request.max_vram_gb
    if low is not None and high is not None:
        return f"of {low:g} to {high:g} GB"
    return f"of {low:g} GB or more" if low is not None else f"of at most {high:g} GB" if high is not None else ""


def parse_selection(text: str) -> dict[str, tuple[int, ...] | None]:
    """Read `--include` and `--exclude`: nodes with optional GPU indexes, as in `gpu1:0,1 gpu2`.

    A node named twice gets all that is named; a node without indexes means all its GPUs.

    Raises:
        UsageError: a word is not `NODE` or `NODE:INDEX,INDEX`.
    """
    chosen: dict[str, tuple[int, ...] | None] = {}
    for word in text.split():
        node, colon, indexes = word.partition(":")
        check_name(node, "node")
        if not colon:
            chosen[node] = None
            continue
        if not _INDEXES.fullmatch(indexes):
            shown = word if len(word) <= 70 else word[:67] + "..."
            raise UsageError(f"selection {shown!r}", "is not NODE or NODE:INDEX,INDEX", "write gpu1:0,1 or gpu1")
        before = chosen.get(node, ())
        if before is not None:
            chosen[node] = tuple(sorted({*before, *map(int, indexes.split(","))}))
    return chosen


def place(request: Request, nodes: Sequence[str], gpus: Sequence[Gpu], busy: Collection[str]) -> list[Placement]:
    """Choose the GPUs of a job and number its ranks.

    - `nodes=N`: the first N nodes that have a free GPU, with all their free GPUs.
    - `gpus=G`: G GPUs on as few nodes as possible, earlier nodes preferred, spread evenly over them.
    - both: G GPUs on exactly N nodes, spread evenly.
    - neither: every free GPU of every node; what `include` names must then all be free.

    Ranks follow the order of `nodes`, then the GPU index; ranks of one node are consecutive.

    Args:
        request: the counts and the selections.
        nodes: names of the nodes that may be used, in inventory order, master first.
        gpus: the GPUs that exist; those of other nodes are ignored. A GPU that two nodes report
            belongs to the first.
        busy: UUIDs in use; where it is a mapping, its values name the holders in error messages.

    Raises:
        UsageError: a count below 1, an unknown node or GPU index, more nodes than exist, fewer GPUs
            than nodes, or nothing left to choose from.
        AllocationError: what was asked for is not free, or there are not that many GPUs.
    """
    _check_counts(request)
    existing = _by_node(nodes, gpus)
    allowed = _select(request, existing)
    if request.nodes is not None and request.nodes > len(allowed):
        left = " after --include and --exclude" if len(allowed) < len(existing) else ""
        raise UsageError(
            f"{counted(request.nodes, 'node')} asked",
            f"{len(allowed)} exist{left}",
            f"nodes: {', '.join(allowed) or 'none'}",
        )
    free = {node: [gpu for gpu in of_node if gpu.uuid not in busy] for node, of_node in allowed.items()}
    if request.nodes is None and request.gpus is None:
        _check_named(request.include, allowed, free, busy)
    counts = _counts(request, {node: len(of_node) for node, of_node in free.items() if of_node}, allowed, busy)
    placements: list[Placement] = []
    for node, count in counts.items():
        for local_rank, gpu in enumerate(free[node][:count]):
            placements.append(Placement(len(placements), node, local_rank, gpu))
    return placements


def _check_counts(request: Request) -> None:
    for option, count in (("--nodes", request.nodes), ("--gpus", request.gpus)):
        if count is not None and count < 1:
            raise UsageError(f"{option} {count}", "is below 1", "ask for at least 1")
    if request.nodes is not None and request.gpus is not None and request.gpus < request.nodes:
        raise UsageError(
            f"{counted(request.gpus, 'GPU')} on {counted(request.nodes, 'node')}",
            "leaves a node without a GPU",
            "ask for at least one GPU per node",
        )


def _by_node(nodes: Sequence[str], gpus: Sequence[Gpu]) -> dict[str, list[Gpu]]:
    """Return each node's GPUs in order of index; a UUID is kept only where it is met first."""
    order = {node: position for position, node in enumerate(nodes)}
    existing: dict[str, list[Gpu]] = {node: [] for node in nodes}
    seen: set[str] = set()
    known = [gpu for gpu in gpus if gpu.node in order]
    for gpu in sorted(known, key=lambda gpu: (order[gpu.node], gpu.index, gpu.uuid)):
        if gpu.uuid not in seen:
            seen.add(gpu.uuid)
            existing[gpu.node].append(gpu)
    return existing


def _select(request: Request, existing: Mapping[str, list[Gpu]]) -> dict[str, list[Gpu]]:
    """Return the nodes and GPUs that `include` and `exclude` leave."""
    for option, selection in (("--include", request.include), ("--exclude", request.exclude)):
        for node, indexes in selection.items():
            if node not in existing:
                raise UsageError(f"{option} {node}", "no such node", f"known nodes: {', '.join(existing)}")
            have = [gpu.index for gpu in existing[node]]
            missing = [index for index in indexes or () if index not in have]
            if missing:
                known = ", ".join(map(str, have)) or "none"
                raise UsageError(f"{option} {node}:{missing[0]}", "no such GPU", f"GPUs of {node}: {known}")
    allowed: dict[str, list[Gpu]] = {}
    for node, gpus in existing.items():
        wanted = request.include.get(node, None if not request.include else ())
        dropped = request.exclude.get(node, ())
        if wanted == () or dropped is None:
            continue
        left = [
            g
            for g in gpus
            if (wanted is None or g.index in wanted) and g.index not in dropped and fits_vram(request, g.vram_gb)
        ]
        if left or not gpus:
            allowed[node] = left
    if not any(allowed.values()) and vram_words(request):
        raise UsageError(
            f"a GPU {vram_words(request)}", "no GPU that may be used is", "ask for another size (`ugro nodes`)"
        )
    if not allowed:
        why = "--include and --exclude leave no GPU" if request.include or request.exclude else "there is no node"
        raise UsageError("choose GPUs", why, "leave an option out or name other GPUs")
    return allowed


def _check_named(
    include: Selection,
    allowed: Mapping[str, list[Gpu]],
    free: Mapping[str, list[Gpu]],
    busy: Collection[str],
) -> None:
    """Refuse when a GPU that the user named one by one, or every GPU of a node named, is in use."""
    for node in allowed:
        indexes = include.get(node, ())
        short = len(free[node]) < len(allowed[node]) if indexes else indexes is None and not free[node]
        if short:
            raise AllocationError(
                f"--include {node}" + (f":{','.join(map(str, indexes))}" if indexes else ""),
                _used(allowed[node], busy) or f"{node} has no GPU",
                "wait for it (`ugro ps`) or choose others",
            )


def _counts(
    request: Request,
    free: Mapping[str, int],
    allowed: Mapping[str, list[Gpu]],
    busy: Collection[str],
) -> dict[str, int]:
    """Return how many GPUs each chosen node gives, in node order."""
    in_use = _used([gpu for of_node in allowed.values() for gpu in of_node], busy)
    total = sum(free.values())
    wanted_nodes, wanted = request.nodes, request.gpus
    if not free or (wanted is not None and total < wanted):
        asked = f"{counted(wanted, 'GPU')} asked" if wanted is not None else "a GPU asked"
        raise _not_enough(f"{asked}, {total} {'free' if in_use else 'may be used'}", in_use)
    if wanted_nodes is not None and len(free) < wanted_nodes:
        lacking = ", ".join(node for node in allowed if node not in free)
        have = f"{len(free)} have a {'free GPU' if in_use else 'GPU'} (not {lacking})"
        raise _not_enough(f"{counted(wanted_nodes, 'node')} asked, {have}", in_use)
    if wanted is None:
        return dict(list(free.items())[:wanted_nodes])
    largest = sorted(free.values(), reverse=True)
    size = wanted_nodes or next(k for k in range(1, len(free) + 1) if sum(largest[:k]) >= wanted)
    if sum(largest[:size]) < wanted:
        most = f"at most {sum(largest[:size])} {'free there' if in_use else 'there'}"
        raise _not_enough(f"{counted(wanted, 'GPU')} on {counted(size, 'node')} asked, {most}", in_use)
    return _spread(wanted, _first_nodes(free, size, wanted))


def _first_nodes(free: Mapping[str, int], size: int, wanted: int) -> dict[str, int]:
    """Return the first `size` nodes, in node order, that have `wanted` free GPUs together."""
    chosen: dict[str, int] = {}
    later = list(free.values())
    for node, count in free.items():
        later = later[1:]
        still = size - len(chosen) - 1
        if still < 0:
            break
        best_rest = sum(sorted(later, reverse=True)[:still])
        if len(later) >= still and sum(chosen.values()) + count + best_rest >= wanted:
            chosen[node] = count
    return chosen


def _spread(wanted: int, room: Mapping[str, int]) -> dict[str, int]:
    """Return `wanted` GPUs spread over nodes as evenly as their room allows, earlier nodes first."""
    counts = dict.fromkeys(room, 0)
    for _ in range(wanted):
        node = min((node for node in room if counts[node] < room[node]), key=lambda node: counts[node])
        counts[node] += 1
    return counts


def _used(gpus: Sequence[Gpu], busy: Collection[str]) -> str:
    """Return who uses these GPUs, in words; empty when nobody does."""
    words = []
    for gpu in gpus:
        if gpu.uuid in busy:
            holder = f" by job {busy[gpu.uuid]}" if isinstance(busy, Mapping) and busy[gpu.uuid] else ""
            words.append(f"{gpu.node}:{gpu.index} is used{holder}")
    return ", ".join(words[:4]) + (f" and {len(words) - 4} more" if len(words) > 4 else "")


def _not_enough(what: str, in_use: str) -> AllocationError:
    advice = "wait for GPUs (`ugro ps`) or ask for less" if in_use else "ask for less, or add nodes (`ugro nodes`)"
    return AllocationError(what, in_use, advice)
