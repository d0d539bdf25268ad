"""Placement: properties that hold for any cluster, and the choices the documentation promises."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ugro_py.errors import AllocationError, UgroError, UsageError
from ugro_py.scheduler import Gpu, Placement, Request, parse_selection, place


def gpus_of(counts: dict[str, int]) -> list[Gpu]:
    return [Gpu(f"GPU-{node}-{i}", node, i, "cuda", "RTX", 8.0) for node, n in counts.items() for i in range(n)]


def shape(placements: list[Placement]) -> dict[str, list[int]]:
    """Node -> indexes of its GPUs, in rank order."""
    found: dict[str, list[int]] = {}
    for placement in placements:
        found.setdefault(placement.node, []).append(placement.gpu.index)
    return found


CLUSTER = {"gpu-master": 1, "gpu1": 4, "gpu2": 2}
NODES = list(CLUSTER)
GPUS = gpus_of(CLUSTER)


@st.composite
def situations(draw: st.DrawFn) -> tuple[Request, list[str], list[Gpu], set[str]]:
    """Any cluster (uneven, with gaps in the indexes, in any order), any load, any request."""
    names = draw(st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=6))
    gpus = [
        Gpu(f"{name}{index}", name, index, draw(st.sampled_from(["cuda", "cpu"])), "x", None)
        for name in names
        for index in draw(st.lists(st.integers(0, 9), unique=True, max_size=5))
    ]
    gpus = draw(st.permutations(gpus))
    busy = {gpu.uuid for gpu in gpus if draw(st.booleans())}
    selections = st.dictionaries(
        st.sampled_from(names or ["a"]),
        st.one_of(st.none(), st.lists(st.integers(0, 9), unique=True, min_size=1, max_size=3).map(tuple)),
        max_size=3,
    )
    counts = st.one_of(st.none(), st.integers(-1, 9))
    request = Request(nodes=draw(counts), gpus=draw(counts), include=draw(selections), exclude=draw(selections))
    return request, names, gpus, busy


@given(situations())
def test_any_placement_is_a_valid_gang(situation: tuple[Request, list[str], list[Gpu], set[str]]) -> None:
    request, nodes, gpus, busy = situation
    try:
        placements = place(request, nodes, gpus, busy)
    except (UsageError, AllocationError) as error:
        assert str(error)
        assert "\n" not in str(error)
        return
    uuids = [placement.gpu.uuid for placement in placements]
    assert uuids
    assert len(set(uuids)) == len(uuids)
    assert not busy & set(uuids)
    assert [placement.rank for placement in placements] == list(range(len(placements)))
    # Ranks of a node are consecutive, nodes come in the order given, so a master that takes part has rank 0.
    order = [(nodes.index(p.node), p.gpu.index) for p in placements]
    assert order == sorted(order)
    for node in nodes:
        local = [p.local_rank for p in placements if p.node == node]
        assert local == list(range(len(local)))
    for placement in placements:
        assert placement.gpu.node == placement.node
        if request.include:
            wanted = request.include.get(placement.node, ())
            assert wanted is None or placement.gpu.index in wanted
        dropped = request.exclude.get(placement.node, ())
        assert dropped is not None
        assert placement.gpu.index not in dropped
    if request.gpus is not None:
        assert len(placements) == request.gpus
    if request.nodes is not None:
        assert len({p.node for p in placements}) == request.nodes


@given(situations(), st.randoms())
def test_the_order_in_which_gpus_are_listed_does_not_matter(
    situation: tuple[Request, list[str], list[Gpu], set[str]], random: Any
) -> None:
    request, nodes, gpus, busy = situation

    def outcome(listed: list[Gpu]) -> list[Placement] | str:
        try:
            return place(request, nodes, listed, busy)
        except UgroError as error:
            return f"{type(error).__name__} {error}"

    shuffled = list(gpus)
    random.shuffle(shuffled)
    assert outcome(gpus) == outcome(shuffled) == outcome(gpus)


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 6), min_size=1), st.data())
def test_gpus_are_found_whenever_enough_are_free(counts: dict[str, int], data: st.DataObject) -> None:
    free = [n for n in counts.values() if n]
    if not free:
        return
    wanted = data.draw(st.integers(1, sum(free)))
    placements = place(Request(gpus=wanted), list(counts), gpus_of(counts), ())
    fewest = next(k for k in range(1, 9) if sum(sorted(free, reverse=True)[:k]) >= wanted)
    per_node = {node: len(indexes) for node, indexes in shape(placements).items()}
    assert sum(per_node.values()) == wanted
    assert len(per_node) == fewest
    # As even as the nodes' sizes allow: only a node that is full has fewer than another by more than one.
    assert all(n >= max(per_node.values()) - 1 or n == counts[node] for node, n in per_node.items())


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (Request(), {"gpu-master": [0], "gpu1": [0, 1, 2, 3], "gpu2": [0, 1]}),
        (Request(nodes=1), {"gpu-master": [0]}),
        (Request(nodes=2), {"gpu-master": [0], "gpu1": [0, 1, 2, 3]}),
        (Request(gpus=1), {"gpu-master": [0]}),
        (Request(gpus=2), {"gpu1": [0, 1]}),
        (Request(gpus=5), {"gpu-master": [0], "gpu1": [0, 1, 2, 3]}),
        (Request(gpus=6), {"gpu1": [0, 1, 2, 3], "gpu2": [0, 1]}),
        (Request(nodes=3, gpus=3), {"gpu-master": [0], "gpu1": [0], "gpu2": [0]}),
        (Request(nodes=3, gpus=6), {"gpu-master": [0], "gpu1": [0, 1, 2], "gpu2": [0, 1]}),
        (Request(nodes=2, gpus=6), {"gpu1": [0, 1, 2, 3], "gpu2": [0, 1]}),
        (Request(include={"gpu1": (3, 1)}), {"gpu1": [1, 3]}),
        (Request(include={"gpu1": (0, 1), "gpu2": None}), {"gpu1": [0, 1], "gpu2": [0, 1]}),
        (Request(exclude={"gpu1": None, "gpu2": (0,)}), {"gpu-master": [0], "gpu2": [1]}),
        (Request(gpus=2, include={"gpu1": None}, exclude={"gpu1": (0,)}), {"gpu1": [1, 2]}),
    ],
)
def test_choice(request_: Request, expected: dict[str, list[int]]) -> None:
    assert shape(place(request_, NODES, GPUS, ())) == expected


def test_a_busy_master_takes_no_part_and_the_next_node_has_rank_0() -> None:
    placements = place(Request(nodes=2), NODES, GPUS, {"GPU-gpu-master-0"})
    assert shape(placements) == {"gpu1": [0, 1, 2, 3], "gpu2": [0, 1]}
    assert (placements[0].node, placements[0].rank) == ("gpu1", 0)


def test_a_gpu_that_two_nodes_report_is_given_once() -> None:
    twice = [Gpu("GPU-same", node, 0, "cuda", "RTX", 8.0) for node in ("gpu1", "gpu-master")]
    assert shape(place(Request(), ["gpu-master", "gpu1"], twice, ())) == {"gpu-master": [0]}


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (Request(nodes=0), "--nodes 0"),
        (Request(gpus=-1), "--gpus -1"),
        (Request(nodes=4), "4 nodes asked: 3 exist"),
        (Request(nodes=3, exclude={"gpu1": None}), "3 nodes asked: 2 exist after --include and --exclude"),
        (Request(nodes=3, gpus=2), "leaves a node without a GPU"),
        (Request(include={"gpu9": None}), "--include gpu9: no such node; known nodes: gpu-master, gpu1, gpu2"),
        (Request(exclude={"gpu2": (1, 2)}), "--exclude gpu2:2: no such GPU; GPUs of gpu2: 0, 1"),
        (Request(include={"gpu1": (0,)}, exclude={"gpu1": (0,)}), "leave no GPU"),
    ],
)
def test_wrong_requests(request_: Request, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        place(request_, NODES, GPUS, ())
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (Request(gpus=8), "8 GPUs asked, 5 free: gpu1:0 is used by job first, gpu2:1 is used by job second"),
        (Request(gpus=6), "6 GPUs asked, 5 free"),
        (Request(nodes=1, gpus=4), "4 GPUs on 1 node asked, at most 3 free there"),
        (Request(include={"gpu1": (0, 1)}), "--include gpu1:0,1: gpu1:0 is used by job first"),
    ],
)
def test_not_free(request_: Request, text: str) -> None:
    with pytest.raises(AllocationError) as caught:
        place(request_, NODES, GPUS, {"GPU-gpu1-0": "first", "GPU-gpu2-1": "second"})
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (Request(gpus=99), "99 GPUs asked, 7 may be used; ask for less, or add nodes (`ugro nodes`)"),
        (Request(nodes=4), "4 nodes asked, 3 have a GPU (not bare); ask for less, or add nodes"),
        (Request(nodes=1, gpus=5), "5 GPUs on 1 node asked, at most 4 there; ask for less"),
    ],
)
def test_what_could_never_be_met_is_not_to_be_waited_for(request_: Request, text: str) -> None:
    with pytest.raises(AllocationError) as caught:
        place(request_, [*NODES, "bare"], GPUS, ())
    assert text in str(caught.value) and "wait" not in str(caught.value) and "free" not in str(caught.value)


def test_fewer_nodes_free_than_asked_names_who_is_short() -> None:
    with pytest.raises(AllocationError, match=r"3 nodes asked, 2 have a free GPU \(not gpu-master\).*job first"):
        place(Request(nodes=3), NODES, GPUS, {"GPU-gpu-master-0": "first"})


def test_everything_busy_or_nothing_there() -> None:
    with pytest.raises(AllocationError, match="0 free"):
        place(Request(), NODES, GPUS, [gpu.uuid for gpu in GPUS])
    with pytest.raises(AllocationError, match="0 may be used; ask for less, or add nodes"):
        place(Request(), ["gpu1"], [], ())
    with pytest.raises(UsageError, match="there is no node"):
        place(Request(), [], [], ())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("gpu1", {"gpu1": None}),
        ("gpu1:0,1 gpu2", {"gpu1": (0, 1), "gpu2": None}),
        ("  gpu1:3   gpu1:1,3 ", {"gpu1": (1, 3)}),
        ("gpu1 gpu1:0", {"gpu1": None}),
        ("gpu1:0 gpu1", {"gpu1": None}),
    ],
)
def test_selection(text: str, expected: dict[str, Any]) -> None:
    assert parse_selection(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "gpu1:",
        ":0",
        "gpu1:a",
        "gpu1:0,",
        "gpu1:,1",
        "gpu1:-1",
        "gpu1:0-1",
        "gpu1:²",
        "gpu1:0:1",
        "a;b",
        "$(id)",
        "{{x}}",
        "../x",
        "-oProxyCommand=x",
        "gpu1:99999",
        "x" * 300,
        "gpu1:" + "1," * 300,
    ],
)
def test_selection_refuses_nonsense_in_one_short_line(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_selection(text)
    assert len(str(caught.value)) < 250


@given(st.text())
def test_selection_of_any_text_is_a_mapping_or_a_usage_error(text: str) -> None:
    try:
        chosen = parse_selection(text)
    except UsageError:
        return
    for node, indexes in chosen.items():
        assert node in text
        assert indexes is None or (indexes and list(indexes) == sorted(set(indexes)))
