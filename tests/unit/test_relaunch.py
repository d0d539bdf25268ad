# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What a retry asks for where nodes, or GPUs, of the last attempt are lost."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests import nvml
from tests.unit.here import JOB, Here, here  # noqa: F401 - a fixture
from ugro_py.errors import VerificationError
from ugro_py.gang import Failure, Outcome
from ugro_py.launch import Launcher
from ugro_py.plan import Gang
from ugro_py.ready import prepare
from ugro_py.recovery.relaunch import _find_place, _requests, _unfit
from ugro_py.request.job import JobRequest
from ugro_py.scheduler import Gpu, Placement
from ugro_py.transport import close_all

NODES = ("gpu-master", "gpu1", "gpu2")
GANG = Gang(
    "job", 1, tuple(Placement(n, node, 0, Gpu(f"CPU-{node}-0", node, 0, "cpu", "CPU", None)) for n, node in
                    enumerate(NODES)),
    "10.0.0.1", 29500, "token",
)  # fmt: skip


@pytest.fixture(autouse=True)
def no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UGRO_DATA", str(tmp_path))


def asked(unfit: tuple[str, ...], **request: object) -> list[tuple[int | None, tuple[str, ...], tuple[str, ...]]]:
    found = _requests(JobRequest("job", **request), GANG, unfit)  # type: ignore[arg-type]
    return [(one.nodes, one.include, one.exclude) for one in found]


def test_any_other_node_will_do_where_none_was_named() -> None:
    assert asked(("gpu1",)) == [(3, (), ("gpu1",))]


def test_fewer_nodes_as_far_as_allowed() -> None:
    assert [nodes for nodes, _, _ in asked(("gpu1",), min_nodes=1)] == [3, 2, 1]


def test_only_the_nodes_that_were_named_are_asked_for_again() -> None:
    left = ("gpu-master", "gpu2:0")
    assert asked(("gpu1",), include=("gpu-master", "gpu1:0", "gpu2:0"), min_nodes=2) == [
        (3, left, ("gpu1",)),
        (2, left, ("gpu1",)),
    ]


def test_nothing_is_asked_for_where_no_named_node_is_left() -> None:
    assert asked(("gpu1",), include=("gpu1",)) == []


def placed(node: str, index: int) -> Placement:
    return Placement(index, node, index, Gpu(f"GPU-{node}-{index}", node, index, "cuda", "GPU", 12.0))


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        # As many GPUs as before, on what is left of the node or without it; else what there is.
        ({"nodes": 2}, [(4, (), ()), (None, (), ("x",)), (None, (), ())]),
        ({"gpus": 4}, [(4, (), ()), (4, (), ("x",))]),
        ({"include": ("x:0,1", "y")}, [(4, ("x:0", "y"), ()), (None, ("y",), ("x",)), (None, ("x:0", "y"), ())]),
        ({"include": ("x:1",)}, []),
    ],
)
def test_a_lost_gpu_leaves_its_node_in(options: dict[str, object], wanted: list[object]) -> None:
    gang = Gang("job", 1, tuple(placed(node, index) for node in "xy" for index in (0, 1)), "x", 1, "token")
    found = _requests(JobRequest("job", **options), gang, (), (placed("x", 1),))  # type: ignore[arg-type]
    assert [(one.gpus, one.include, one.exclude) for one in found] == wanted


@pytest.mark.parametrize(("rank", "trusted"), [(0, False), (1, True), (None, True)])
def test_a_gpu_that_failed_and_is_back_is_not_trusted_though_another_of_its_node_is_left_out(
    here: Here, rank: int | None, trusted: bool
) -> None:
    node = replace(here.cluster.nodes[0], gpu_count=2)
    gpus = [Gpu(f"GPU-{n}", "a", n, "cuda", "GPU", 12.0) for n in (0, 1)]
    here.store.sync_node(node, gpus, {})
    here.store.gpu_is_gone("GPU-1")
    places = tuple(Placement(n, "a", n, gpu) for n, gpu in enumerate(gpus))
    launcher = Launcher(JobRequest(JOB, script="main.py"), here.cluster, here.store, "ob", None, here.me)
    failure = Failure(1.0, "lost", rank, "a", kind="gpu")
    unfit, gone = _unfit(launcher, Gang(JOB, 1, places, "127.0.0.1", 1, "t"), Outcome("failed", failure=failure))
    assert (unfit, list(gone)) == (({}, [places[1]]) if trusted else ({"a": "lost a GPU"}, []))


@pytest.mark.skipif(nvml.skip_reason() is not None, reason=str(nvml.skip_reason()))
def test_the_next_attempt_gets_the_other_gpu_of_the_node(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of its two is off the bus, which alone would keep every job from a node: here it is known, and left out."""
    site, program = tmp_path / "env/lib/python3.11/site-packages", tmp_path / "env/bin/python"
    for folder in (site / "torch-2.6.0.dist-info", site / "torch", program.parent):
        folder.mkdir(parents=True)
    (site / "torch" / "version.py").write_text("cuda = '12.4'\n")  # what looks like a torch for GPUs
    (tmp_path / "env" / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.2\n")
    program.symlink_to(sys.executable)
    for name, value in nvml.environment(nvml.build(tmp_path / "nvml"), "lost").items():
        monkeypatch.setitem(os.environ, name, value)
    node = replace(here.cluster.nodes[0], train_python=str(program), gpu_count=2)
    cluster = replace(here.cluster, nodes=(node,))
    gpus = [Gpu(f"GPU-00000000-0000-0000-0000-{n:012d}", "a", n, "cuda", "GPU", 12.0) for n in (0, 1)]
    here.store.sync_node(node, gpus, {})
    here.store.create_job(JOB, "ob", {})
    here.store.claim(JOB, here.me)
    places = tuple(Placement(n, "a", n, gpu) for n, gpu in enumerate(gpus))
    gang = Gang(JOB, 1, places, "127.0.0.1", 29500, "token")
    here.store.start_attempt(JOB, places, master_addr="127.0.0.1", master_port=29500, token="token")
    here.store.set_attempt(JOB, 1, status="failed")
    here.store.gpu_is_gone(gpus[1].uuid)
    request = JobRequest(JOB, script="main.py", workdir=str(tmp_path), nodes=1)
    launcher = Launcher(request, cluster, here.store, "ob", None, here.me)

    unfit, gone = _unfit(launcher, gang, Outcome("failed", failure=Failure(1.0, "lost", 1, "a", kind="gpu")))
    assert (unfit, list(gone)) == ({}, [places[1]])

    async def play() -> list[Placement]:
        here.store.release(JOB)
        with pytest.raises(VerificationError, match="GPU 1"):
            await prepare(request, cluster, here.store)
        ready = await _find_place(launcher, gang, unfit, gone)
        await close_all(ready.sessions.values())
        # The same where the retry waited and the queue has chosen for it; what never ran is kept from such a node.
        queued = await prepare(request, cluster, here.store, decided=[places[0]])
        await close_all(queued.sessions.values())
        here.store.create_job("new", "ob", {})
        with pytest.raises(VerificationError, match="GPU 1"):
            await prepare(replace(request, name="new"), cluster, here.store, decided=[places[0]])
        return ready.placements

    assert [place.gpu.uuid for place in asyncio.run(play())] == [gpus[0].uuid]
