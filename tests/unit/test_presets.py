# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The names of the presets, asked for by several threads of the agent at once."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ugro_py.request import sources


@pytest.fixture
def others_take_turns() -> Iterator[None]:
    """Let other threads run whenever Python collects garbage, which it does while it makes a syntax tree too."""

    def pause(_phase: str, _info: object) -> None:
        time.sleep(1e-5)

    before = gc.get_threshold()
    gc.set_threshold(50)
    gc.callbacks.append(pause)
    yield
    gc.callbacks.remove(pause)
    gc.set_threshold(*before)


@pytest.mark.usefixtures("others_take_turns")
def test_submissions_that_come_together_all_learn_the_presets() -> None:
    """Python 3.11 counts the depth of a syntax tree for all threads together, and fails: SystemError."""

    def ask(_number: int) -> tuple[str, ...]:
        sources._presets.cache_clear()  # as the first ones find it
        return sources.presets()

    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(ask, range(40)))
    assert len(found) == 1 and found.pop()
