# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Which ports are tried for the rendezvous, and in which order."""

from __future__ import annotations

import pytest

from ugro_py.master_port import _candidates


@pytest.mark.parametrize(("first", "last"), [(29500, 29599), (65500, 65535), (65535, 65535)])
def test_each_port_of_the_range_is_tried_once(first: int, last: int) -> None:
    assert sorted(_candidates(first)) == list(range(first, last + 1))


def test_stores_begin_at_different_ports_and_keep_to_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    begins = []
    for number in range(50):
        monkeypatch.setenv("UGRO_DB", f"sqlite:////tmp/{number}.db")
        begins.append(_candidates(29500)[0])
        assert _candidates(29500)[0] == begins[-1]
    assert len(set(begins)) > 25
