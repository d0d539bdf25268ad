# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A node notices that it is cut off from its peers, and never takes a firewall or a busy machine for that."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from ansible_collections.ugro.cluster.plugins.module_utils import isolation


def test_a_refused_and_an_accepted_connection_are_answers() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        assert isolation.answers("127.0.0.1", port)  # bound, not listening: refused
        listener.listen()
        assert isolation.answers("127.0.0.1", port)


def test_a_name_that_does_not_resolve_is_no_answer() -> None:
    assert not isolation.answers("no-such-host.invalid", timeout_s=0.5)


@pytest.fixture
def reachable(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bool]]:
    """Who answers; time runs fast. Who looks for them does not do so for as long as this process lives."""
    peers = {"a": True, "b": True}
    before = set(threading.enumerate())
    monkeypatch.setattr(isolation, "answers", lambda address: peers[address])
    monkeypatch.setattr(isolation, "_EVERY_S", 0.01)
    monkeypatch.setattr(isolation, "ISOLATED_S", 0.2)
    yield peers
    for thread in set(threading.enumerate()) - before:
        if isinstance(thread, isolation.IsolationWatch):
            thread._peers.clear()
            thread.join(60)
            assert not thread.is_alive()


def wait_isolated(watch: isolation.IsolationWatch, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if watch.isolated():
            return True
        time.sleep(0.01)
    return False


def test_isolated_only_when_no_peer_answers_any_more(reachable: dict[str, bool]) -> None:
    watch = isolation.IsolationWatch(["a", "b"])
    watch.start()
    assert not wait_isolated(watch, 0.5)
    reachable["a"] = False
    assert not wait_isolated(watch, 0.5)
    reachable["b"] = False
    assert wait_isolated(watch, 60)
    reachable["a"] = True
    end = time.monotonic() + 60
    while watch.isolated():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_peers_that_never_answered_prove_nothing(reachable: dict[str, bool]) -> None:
    reachable.update(a=False, b=False)
    watch = isolation.IsolationWatch(["a", "b"])
    watch.start()
    assert not wait_isolated(watch, 0.6)


def test_without_peers_there_is_nothing_to_watch() -> None:
    watch = isolation.IsolationWatch([])
    watch.start()
    watch.join(5)
    assert not watch.is_alive()
    assert not watch.isolated()
