# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Fewer ranks do as many blocks a step as before."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

TRAIN = Path(__file__).parents[2] / "train"
sys.path.insert(0, str(TRAIN))
import data  # noqa: E402


@pytest.mark.parametrize(
    ("batch", "accumulation", "wanted", "world", "blocks"),
    [(8, 1, 3, 2, 24), (8, 2, 4, 2, 64), (4, 1, 3, 1, 12), (1, 1, 4, 3, 6), (7, 1, 3, 2, 28)],
)
def test_the_global_batch_is_kept(batch: int, accumulation: int, wanted: int, world: int, blocks: int) -> None:
    size, passes = data.same_global_batch(batch, accumulation, wanted, world)
    assert size <= batch
    assert size * passes * world == blocks
    assert blocks >= batch * accumulation * wanted
