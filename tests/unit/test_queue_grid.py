"""The scheduler's fast placement against `scheduler.place`, which says what a request means."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.queue_worlds import clusters, requests
from ugro_py.errors import UgroError
from ugro_py.queue.counting import spread
from ugro_py.queue.filters import Filters
from ugro_py.queue.grid import Free, Grid
from ugro_py.scheduler import Gpu, Placement, Request, place


def by_place(request: Request, nodes: tuple[str, ...], gpus: tuple[Gpu, ...], busy: set[str]) -> list[Placement] | None:
    """What `place` gives; GPUs and CPU slots are not mixed, as when a job is launched."""
    candidates = [
        node for node in nodes
        if request.exclude.get(node, ()) is not None and (not request.include or node in request.include)
    ]  # fmt: skip
    flat = [gpu for gpu in gpus if gpu.node in candidates]
    if any(gpu.kind == "cuda" for gpu in flat):
        flat = [gpu for gpu in flat if gpu.kind == "cuda"]
    indexes = {node: {gpu.index for gpu in flat if gpu.node == node} for node in nodes}
    exclude = {
        node: None if dropped is None else tuple(index for index in dropped if index in indexes[node])
        for node, dropped in request.exclude.items()
    }
    # A CPU slot that is named while there are GPUs is none to be had; `place` would call it unknown.
    hidden = {(gpu.node, gpu.index) for gpu in gpus} - {(gpu.node, gpu.index) for gpu in flat}
    include = {
        # () would mean a node that is not named at all; this one is named, and has nothing.
        node: None if named is None else tuple(index for index in named if (node, index) not in hidden) or None
        for node, named in request.include.items()
    }
    wanted = Request(request.nodes, request.gpus, include, exclude, request.min_vram_gb, request.max_vram_gb)
    try:
        return place(wanted, nodes, flat, busy)
    except UgroError:
        return None


@settings(max_examples=1500, deadline=None)
@given(st.data())
def test_the_same_gpus_as_place(data: st.DataObject) -> None:
    nodes, gpus = data.draw(clusters())
    request = data.draw(requests(nodes))
    busy = {gpu.uuid for gpu in gpus if data.draw(st.booleans())}
    grid = Grid(nodes, gpus)
    free = Free(grid, [(1 << len(row)) - 1 for row in grid.gpus])
    for uuid in sorted(busy):
        if data.draw(st.booleans()):  # counts are made at the first question: before some of these, after others
            free.choose(Request(gpus=1), Filters(grid).of(Request(gpus=1)))
        free.take((grid.where[uuid],))
    taken = free.choose(request, Filters(grid).of(request))
    expected = by_place(request, nodes, gpus, busy)
    assert (None if taken is None else list(grid.placements(taken))) == expected


@given(st.integers(1, 60), st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_spread_is_even(wanted: int, room: list[int]) -> None:
    wanted = min(wanted, sum(room))
    parts = spread(wanted, list(enumerate(room)))
    assert sum(part for _, part in parts) == wanted
    assert all(0 <= part <= room[number] for number, part in parts)
    most = max(part for _, part in parts)
    assert all(part >= most - 1 or part == room[number] for number, part in parts)


@pytest.mark.parametrize(
    ("low", "high", "fits"), [(24, None, True), (24, 24, True), (25, None, False), (None, 20, False)]
)
def test_a_card_counts_by_the_size_it_is_sold_with(low: float | None, high: float | None, fits: bool) -> None:
    grid = Grid(("a",), [Gpu("L4", "a", 0, "cuda", "NVIDIA L4", 22.49)])
    request = Request(gpus=1, min_vram_gb=low, max_vram_gb=high)
    assert (Free(grid, [1]).choose(request, Filters(grid).of(request)) is not None) is fits
