"""Which GPUs of the cluster one job may have: its kind, size, and the nodes it names."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from ugro_py.queue.counting import members
from ugro_py.queue.grid import Grid
from ugro_py.scheduler import Request, fits_vram, vram_words


@dataclass(frozen=True)
class Filter:
    """The GPUs that one job may have.

    Attributes:
        kind: "cuda" or "cpu".
        key: of the kind and sizes of GPUs: jobs that agree in it share the counts per node.
        nodes: the nodes that may take part; None for all.
        only: node -> bits of its GPUs, where the job named or excluded some of them.
        bits: all its GPUs, numbered through the cluster.
        error: why there is none; empty if there is.
    """

    kind: str
    key: frozenset[Any]
    nodes: int | None
    only: dict[int, int]
    bits: int
    error: str = ""


def selection_key(request: Request) -> tuple[Any, ...]:
    """Return what tells which GPUs a job may have; equal for jobs that may have the same."""
    if not request.include and not request.exclude:
        return (request.min_vram_gb, request.max_vram_gb)
    return (
        request.min_vram_gb,
        request.max_vram_gb,
        tuple(sorted(request.include.items())),
        tuple(sorted(request.exclude.items())),
    )


class Filters:
    """The filters of a decision, each made once. Ten thousand jobs may name nodes in as many ways: none takes long."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._all = (1 << len(grid.nodes)) - 1
        self._kinds = Counter(kind for classes in grid.classes for kind in classes)
        self._known: dict[Any, Filter] = {}
        self._bits: dict[frozenset[Any], int] = {}

    def of(self, request: Request) -> Filter:
        """Return what the job may have of what exists; the same for equal selections."""
        key = selection_key(request)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._new(request)
        return found

    def _new(self, request: Request) -> Filter:
        kinds, nodes = frozenset(self._kinds), None
        only: dict[int, int] = {}
        if request.include or request.exclude:
            error = self._unknown(request)
            if error:
                return Filter("", frozenset(), 0, {}, 0, error)
            nodes, only = self._selected(request)
            kinds = self._kinds_on(nodes)
        kind_name = "cuda" if any(kind[0] == "cuda" for kind in kinds) else "cpu"
        # One gang speaks NCCL or gloo, not both.
        key = frozenset(kind for kind in self._kinds if kind[0] == kind_name and fits_vram(request, kind[1]))
        bits = self._bits_of(key) if nodes is None else self._bits_of(key) & self._span(nodes)
        for number, here in only.items():
            bits &= ~((self._row(number) & ~here) << self._grid.first[number])
        error = "" if bits else "no node that it may use has a GPU"
        if kinds and not bits and vram_words(request):
            error = f"no GPU that it may use is {vram_words(request)}"
        return Filter(kind_name, key, nodes, only, bits, error)

    def _unknown(self, request: Request) -> str:
        """Return what the job names that there is not; empty if there is all."""
        for name, indexes in request.include.items():
            if name not in self._grid.number:
                return f"there is no node {name}"
            here = {gpu.index for gpu in self._grid.gpus[self._grid.number[name]]}
            missing = [index for index in indexes or () if index not in here]
            if missing:
                return f"{name} has no GPU {missing[0]}"
        return ""

    def _selected(self, request: Request) -> tuple[int, dict[int, int]]:
        """Return the nodes that `include` and `exclude` leave, and the GPUs where they name GPUs."""
        grid = self._grid
        nodes = sum(1 << grid.number[name] for name in request.include) if request.include else self._all
        only: dict[int, int] = {}
        for name in {*request.include, *request.exclude}:
            number = grid.number.get(name)
            wanted, dropped = request.include.get(name), request.exclude.get(name, ())
            if number is None:
                continue  # an excluded node that there is not
            if dropped is None:
                nodes &= ~(1 << number)
            elif wanted is not None or dropped:
                only[number] = sum(
                    1 << place
                    for place, gpu in enumerate(grid.gpus[number])
                    if (wanted is None or gpu.index in wanted) and gpu.index not in dropped
                )
        return nodes, {number: bits for number, bits in only.items() if nodes >> number & 1}

    def _row(self, number: int) -> int:
        return (1 << len(self._grid.gpus[number])) - 1

    def _bits_of(self, key: frozenset[Any]) -> int:
        """Return all GPUs of these kinds and sizes, numbered through the cluster."""
        bits = self._bits.get(key)
        if bits is None:
            grid = self._grid
            bits = grid.bits_of(tuple((number, grid.mask(number, key)) for number in range(len(grid.nodes))))
            self._bits[key] = bits
        return bits

    def _span(self, nodes: int) -> int:
        """Return all GPUs of these nodes, numbered through the cluster."""
        left_out = ~nodes & self._all
        few = nodes.bit_count() <= left_out.bit_count()
        bits = 0
        for number in members(nodes if few else left_out):
            bits |= self._row(number) << self._grid.first[number]
        return bits if few else ~bits

    def _kinds_on(self, nodes: int) -> frozenset[tuple[str, float | None]]:
        """Return the kinds and sizes of GPUs that these nodes have."""
        left_out = ~nodes & self._all
        classes = self._grid.classes
        if nodes.bit_count() <= left_out.bit_count():
            return frozenset(kind for number in members(nodes) for kind in classes[number])
        gone = Counter(kind for number in members(left_out) for kind in classes[number])
        return frozenset(kind for kind, count in self._kinds.items() if count > gone[kind])
