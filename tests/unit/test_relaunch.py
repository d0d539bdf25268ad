# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What a retry asks for where nodes of the last attempt are lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from ugro_py.plan import Gang
from ugro_py.recovery.relaunch import _requests
from ugro_py.request import JobRequest
from ugro_py.scheduler import Gpu, Placement

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
