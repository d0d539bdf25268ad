# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""An attempt on its node: the command it runs, and a start that a stop or the current folder comes between."""

from __future__ import annotations

import pytest
from ansible_collections.ugro.cluster.plugins.module_utils.attempt import filled

WORDS = {"{python}": "/venv/python", "{attempt}": "/jobs/j/1", "{rank_exec}": "/u/rank_exec.py"}
TORCHRUN = ["{python}", "-m", "torch.distributed.run", "--no-python", "{python}", "-S", "{rank_exec}", "{attempt}"]
USER = ["{attempt}", "{python}", "{rank_exec}", "{attempt}", "{python}"]


@pytest.mark.parametrize("program", [["{python}", "train.py"], ["./train"]])
def test_what_the_user_passes_stays_as_it_is(program: list[str]) -> None:
    command = filled([*TORCHRUN, *program, *USER], WORDS)
    ours = [WORDS.get(word, word) for word in TORCHRUN + program]
    assert command == ours + USER
