"""Clusters, loads and queues of all sorts, for the tests of the scheduler."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from ugro_py.queue.model import Quota, Running, Snapshot, Waiting
from ugro_py.scheduler import Gpu, Request

NOW = 1_800_000_000.0
USERS = ("ob", "ollie", "eva")


def gpus_of(counts: dict[str, int], vram_gb: float | None = 8.0) -> tuple[Gpu, ...]:
    return tuple(
        Gpu(f"GPU-{node}-{i}", node, i, "cuda", "RTX", vram_gb) for node, n in counts.items() for i in range(n)
    )


def waiting(job: str, gpus: int | None = 1, **values: Any) -> Waiting:
    """A job that was asked for a minute ago."""
    request = values.pop("request", None) or Request(gpus=gpus, nodes=values.pop("nodes", None))
    defaults = {"user": "ob", "priority": 50, "submitted_at": NOW - 60, "request": request}
    return Waiting(job=job, **{**defaults, **values})


def running(job: str, *gpus: str, **values: Any) -> Running:
    return Running(job=job, gpus=gpus, **{"user": "ob", "priority": 50, "since": NOW - 600, **values})


@st.composite
def clusters(draw: st.DrawFn) -> tuple[tuple[str, ...], tuple[Gpu, ...]]:
    """Uneven nodes with gaps in their indexes, GPUs of several sizes, some nodes with CPU slots or nothing."""
    nodes = tuple(draw(st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1, max_size=6)))
    gpus = []
    for node in nodes:
        kind = draw(st.sampled_from(["cuda", "cuda", "cuda", "cpu"]))
        for index in draw(st.lists(st.integers(0, 9), unique=True, max_size=5)):
            vram = draw(st.sampled_from([None, 7.99, 8.0, 22.5, 24.0])) if kind == "cuda" else None
            gpus.append(Gpu(f"{node}{index}", node, index, kind, "x", vram))
    return nodes, tuple(draw(st.permutations(gpus)))


@st.composite
def requests(draw: st.DrawFn, nodes: tuple[str, ...]) -> Request:
    selections = st.dictionaries(
        st.sampled_from(nodes),
        st.one_of(st.none(), st.lists(st.integers(0, 9), unique=True, min_size=1, max_size=3).map(tuple)),
        max_size=3,
    )
    few = st.one_of(st.just({}), st.just({}), selections)
    count = st.one_of(st.none(), st.integers(1, 7))
    size = draw(st.sampled_from([(None, None)] * 4 + [(8.0, None), (24.0, None), (None, 8.0), (8.0, 24.0)]))
    wanted, on = draw(count), draw(st.one_of(st.none(), st.none(), st.integers(1, 4)))
    if wanted is not None and on is not None and wanted < on:
        on = None
    return Request(on, wanted, draw(few), draw(few), *size)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Any moment of any cluster."""
    nodes, gpus = draw(clusters())
    names = [f"job{number}" for number in range(draw(st.integers(0, 8)))]
    limits = st.one_of(st.none(), st.sampled_from([60.0, 600.0, 3600.0, 86400.0]))
    jobs = []
    for name in names:
        jobs.append(
            Waiting(
                name,
                draw(st.sampled_from(USERS)),
                draw(st.sampled_from([5, 10, 50, 50, 90, 95])),
                draw(requests(nodes)),
                NOW - draw(st.integers(0, 300_000)),
                group=draw(st.sampled_from([None, "lab"])),
                position=draw(st.one_of(st.none(), st.none(), st.integers(-9, 9).map(lambda p: NOW + p))),
                held_by=draw(st.sampled_from([None, None, None, "ob"])),
                after=draw(st.sampled_from([(), (), (), ("first",), ("lost",), ("goes-on",), ("first", "goes-on")])),
                time_limit_s=draw(limits),
                blocked=draw(st.sampled_from(["", "", "", "tries again in 10 s"])),
            )
        )
    held, left = [], list(gpus)
    for number in range(draw(st.integers(0, 4))):
        mine = [gpu for gpu in left if draw(st.booleans())][:3]
        left = [gpu for gpu in left if gpu not in mine]
        if mine:
            limit = draw(limits)
            held.append(
                Running(
                    f"run{number}", draw(st.sampled_from(USERS)), draw(st.sampled_from([10, 50, 90])),
                    tuple(gpu.uuid for gpu in mine), NOW - draw(st.integers(0, 5000)),
                    ends_at=None if limit is None else NOW + limit, stopping=draw(st.booleans()),
                )
            )  # fmt: skip
    quota = st.builds(
        Quota,
        st.one_of(st.none(), st.integers(0, 4)),
        st.sampled_from([None, None, 10.0]),
        st.sampled_from([0.0, 50.0]),
    )
    return Snapshot(
        NOW, nodes, gpus, tuple(jobs), tuple(held),
        unschedulable=draw(st.dictionaries(st.sampled_from(nodes), st.just("it is drained"), max_size=2)),
        unusable={gpu.uuid: "somebody uses it" for gpu in gpus if draw(st.integers(0, 9)) == 0},
        usage=draw(st.dictionaries(st.sampled_from(USERS), st.floats(0, 1e6), max_size=3)),
        quotas=draw(st.dictionaries(
            st.sampled_from([("user", "ob"), ("user", "eva"), ("group", "lab")]), quota, max_size=2)),
        ended={"first": "completed", "lost": draw(st.sampled_from(["failed", "stopped", ""]))},
        preemption=draw(st.booleans()),
    )  # fmt: skip
