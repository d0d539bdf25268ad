# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Who controls a job, and who asked it to stop, on SQLite and on PostgreSQL."""

from __future__ import annotations

import dataclasses

from ugro_py.state import Controller, Store


def test_one_controller_at_a_time(store: Store) -> None:
    store.create_job("one", "ob", {})
    first = Controller("master", "boot-a", 100, 5_000_000_000)
    second = Controller("master", "boot-a", 200, 2)
    assert store.claim("one", first)
    assert store.job("one").controller == first
    assert store.claim("one", first)
    assert not store.claim("one", second)
    # Only whoever names the present controller, exactly, takes its place: the second of two is too late.
    assert not store.claim("one", dataclasses.replace(second, replaces=dataclasses.replace(first, start_ticks=1)))
    assert store.claim("one", dataclasses.replace(second, replaces=first))
    assert not store.claim("one", Controller("master", "boot-a", 300, 3, replaces=first))
    store.unclaim("one", first)
    assert store.job("one").controller == second
    store.unclaim("one", second)
    assert store.job("one").controller is None
    assert store.claim("one", first)


def test_stop_request(store: Store) -> None:
    store.create_job("one", "ob", {})
    store.request_stop("one")
    store.request_stop("one")
    assert (store.job("one").stop_requested, store.job("one").stop_force) == (True, False)
    store.request_stop("one", force=True)
    store.request_stop("one")
    assert (store.job("one").stop_requested, store.job("one").stop_force) == (True, True)
    assert [e.text for e in store.events("one")] == ["pending", "stop asked", "stop by force asked"]
    store.create_job("two", "ob", {})
    store.set_job("two", "completed", exit_code=0)
    store.request_stop("two")
    assert store.job("two").stop_requested is False
