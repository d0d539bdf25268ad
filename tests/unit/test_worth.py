# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What a step would take without a node, and how fast bytes get from one node to another."""

from __future__ import annotations

import json
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.ugro.cluster.plugins.module_utils import bandwidth
from click.testing import CliRunner

from ugro_py import paths
from ugro_py.cli import cli
from ugro_py.errors import NodeError
from ugro_py.stragglers.times import RankTimes, Times, from_json
from ugro_py.stragglers.words import worth_lines
from ugro_py.worth import links as worth_links
from ugro_py.worth import prediction
from ugro_py.worth.prediction import Link

MB = 1_000_000
NODES = ("gpu-master", "gpu1", "gpu2")


def gang(own: tuple[float, ...], transfer: float, nodes: tuple[str, ...] = NODES) -> Times:
    """Ranks with so much work of their own, one on each of `nodes`, which may repeat."""
    step = max(own) + transfer
    ranks = tuple(
        RankTimes(rank, node, "", "", 50, step, step, 0.0, step - work, max(own) - work, work, work, 0.0)
        for rank, (node, work) in enumerate(zip(nodes, own, strict=True))
    )
    return Times(ranks, step, transfer)


def network(slow: str = "", mb_s: float = 10.0, fast: float = 1000.0) -> list[Link]:
    """Every link of NODES; those of `slow` are slow."""
    return [
        Link(one, other, mb_s if slow in (one, other) else fast, 0.0, time.time())
        for one in NODES for other in NODES if one != other
    ]  # fmt: skip


def test_a_ring_moves_twice_the_bytes_less_one_part() -> None:
    links = [Link("a", "b", 100.0, 0.0, 0), Link("b", "a", 50.0, 0.0, 0)]
    assert prediction.all_reduce_s(100 * MB, 4, links) == pytest.approx(2 * 3 / 4 * 100 / 50)
    late = [Link("a", "b", 100.0, 0.5, 0), Link("b", "a", 50.0, 2.0, 0)]
    # 100 MB are 5 buckets, each takes 2 (r - 1) steps, each step the longest way.
    assert prediction.all_reduce_s(100 * MB, 4, late) == pytest.approx(3.0 + 2 * 3 * 5 * 0.002)
    assert prediction.all_reduce_s(100 * MB, 1, links) == prediction.all_reduce_s(100 * MB, 4, []) == 0.0


def test_a_node_behind_a_slow_link_is_better_left_out() -> None:
    transfer = 4 / 3 * 3 / 10  # of 3 MB over 10 MB/s in a ring of three
    found = prediction.predict(gang((0.3, 0.3, 0.3), transfer), 3 * MB, network("gpu2"))
    assert found is not None
    assert found.whole.step_s == pytest.approx(found.measured_s) == pytest.approx(0.7)
    without = {each.node: each for each in found.without}
    assert without["gpu2"].advice == "leave out"
    assert without["gpu2"].step.work_s == pytest.approx(0.45)  # two share what three did
    assert without["gpu2"].step.transfer_s == pytest.approx(0.003)
    assert without["gpu1"].advice == "keep" and without["gpu1"].step.slow_link is not None
    assert "gpu2" in (without["gpu1"].step.slow_link.source, without["gpu1"].step.slow_link.target)
    json.dumps(found.to_json(), allow_nan=False)


def test_a_node_with_a_slow_card_is_better_left_out() -> None:
    found = prediction.predict(gang((0.3, 0.9, 0.3), 0.001), MB, network())
    assert found is not None and found.whole.slow_node == "gpu1"
    advice = {each.node: each.advice for each in found.without}
    assert advice == {"gpu-master": "keep", "gpu1": "leave out", "gpu2": "keep"}


def test_a_node_that_makes_no_difference() -> None:
    found = prediction.predict(gang((0.3, 0.45, 0.3), 0.0013), MB, network())
    assert found is not None and found.without[1].advice == "no difference"  # 0.3 s times 3/2 is as much


@pytest.mark.parametrize(
    ("off", "advice"),
    [
        (0.0, ["keep", "no difference", "keep"]),
        (0.02, ["keep", "no difference", "keep"]),
        (0.04, ["keep", "no telling", "keep"]),
        (-0.3, ["keep", "no telling", "keep"]),
        (0.6, ["no telling", "no telling", "no telling"]),
    ],
)
def test_a_model_that_is_off_by_more_than_a_node_changes_gives_no_advice(off: float, advice: list[str]) -> None:
    times = gang((0.3, 0.45, 0.3), 0.0013)  # without gpu1 it takes as long, without another half as long again
    found = prediction.predict(replace(times, step_s=(times.step_s or 0) * (1 + off)), MB, network())
    assert found is not None and found.off == pytest.approx(abs(off))
    assert [each.advice for each in found.without] == advice
    assert [each["advice"] for each in found.to_json()["without"]] == advice
    line = worth_lines(found)[2]
    assert line.endswith(f"no telling: the prediction of the whole is {abs(off):.0%} off".replace("%", " %")) == (
        advice[1] == "no telling"
    ), line


def test_what_is_hidden_behind_computing_stays_hidden() -> None:
    wire = 4 / 3 * 3 / 10
    found = prediction.predict(gang((0.3, 0.3, 0.3), wire / 4), 3 * MB, network("gpu2"))
    assert found is not None and found.without[0].step.transfer_s == pytest.approx(3 / 10 / 4)


def test_what_is_measured_beyond_the_wire_stays() -> None:
    found = prediction.predict(gang((0.3, 0.3, 0.3), 0.1), 3 * MB, network())
    assert found is not None
    assert found.without[0].step.transfer_s == pytest.approx(0.1 - 4 / 3 * 0.003 + 0.003)


def test_ranks_of_one_node_leave_together() -> None:
    times = gang((0.2, 0.2, 0.2, 0.2), 0.001, ("gpu-master", "gpu-master", "gpu1", "gpu1"))
    found = prediction.predict(times, MB, network())
    assert found is not None and [each.node for each in found.without] == ["gpu-master", "gpu1"]
    assert found.without[0].step.work_s == pytest.approx(0.4) and found.without[0].step.slow_link is None


def test_nothing_is_predicted_from_too_little() -> None:
    whole = gang((0.3, 0.3, 0.3), 0.1)
    assert prediction.predict(whole, None, network()) is None
    assert prediction.predict(whole, MB, network()[1:]) is None
    assert prediction.predict(Times(whole.ranks, whole.step_s, None), MB, network()) is None
    assert prediction.predict(gang((0.3,), 0.0, ("gpu1",)), MB, network()) is None
    assert prediction.predict(Times((), None, None), MB, network()) is None


def test_times_come_back_from_json() -> None:
    times = gang((0.3, 0.2, 0.3), 0.1)
    ranks = [vars(rank) | {"compute_s": 1.0} for rank in times.ranks]
    assert from_json({"ranks": ranks, "step_s": times.step_s, "transfer_s": times.transfer_s}) == times


@pytest.mark.parametrize("count", [2, 3, 4, 7, 30])
def test_every_pair_meets_once_and_nobody_twice_in_a_round(count: int) -> None:
    names = [f"n{number}" for number in range(count)]
    rounds = worth_links.rounds(names)
    assert len(rounds) == count - 1 + count % 2
    assert all(len({name for pair in pairs for name in pair}) == 2 * len(pairs) for pairs in rounds)
    met = [frozenset(pair) for pairs in rounds for pair in pairs]
    assert len(met) == len(set(met)) == count * (count - 1) // 2


# -- measuring ------------------------------------------------------------------------------------------------


def test_bytes_are_counted_where_they_arrive() -> None:
    receiver = bandwidth.Receiver("127.0.0.1", "t" * 32, 0.5)
    found = bandwidth.send("127.0.0.1", receiver.port, "t" * 32, 0.5)
    assert found["mb_s"] > 1 and 0 <= found["latency_ms"] < 1000


def test_who_does_not_know_the_token_measures_nothing_and_does_not_spoil_it() -> None:
    receiver = bandwidth.Receiver("127.0.0.1", "t" * 32, 0.2)
    with pytest.raises(OSError):
        bandwidth.send("127.0.0.1", receiver.port, "w" * 32, 0.2)
    socket.create_connection(("127.0.0.1", receiver.port)).close()
    assert bandwidth.send("127.0.0.1", receiver.port, "t" * 32, 0.2)["latency_ms"] >= 0


def test_strangers_that_say_nothing_keep_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """They connect first, and would be heard for minutes; the room they leave is enough for the one who knows."""
    monkeypatch.setattr(bandwidth, "_TOKEN_S", 120.0)
    monkeypatch.setattr(bandwidth, "_PATIENCE_S", 60.0)
    receiver = bandwidth.Receiver("127.0.0.1", "t" * 32, 0.2)
    strangers = [socket.create_connection(("127.0.0.1", receiver.port)) for _ in range(5)]
    try:
        assert bandwidth.send("127.0.0.1", receiver.port, "t" * 32, 0.2)["latency_ms"] >= 0
    finally:
        for stranger in strangers:
            stranger.close()


def test_more_strangers_than_are_heard_leave_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bandwidth, "_TOKEN_S", 0.2)
    before = set(threading.enumerate())
    receiver = bandwidth.Receiver("127.0.0.1", "t" * 32, 0.2)
    strangers = [socket.create_connection(("127.0.0.1", receiver.port)) for _ in range(30)]
    assert len(set(threading.enumerate()) - before) <= 1 + bandwidth._STRANGERS
    for stranger in strangers:
        stranger.settimeout(60)
        assert stranger.recv(1) == b"", "it is sent away"
        stranger.close()
    for thread in set(threading.enumerate()) - before - {receiver.thread}:
        thread.join(60)
    monkeypatch.setattr(bandwidth, "_TOKEN_S", 60.0)  # who knows it may be slow, on a busy machine
    assert bandwidth.send("127.0.0.1", receiver.port, "t" * 32, 0.2)["latency_ms"] >= 0
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
        assert not thread.is_alive()


def test_a_firewall_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that drops (the kernel does so where a listener's queue is full), and one that refuses (nobody is there)."""
    monkeypatch.setattr(bandwidth, "_CONNECT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        with pytest.raises(OSError, match=rf"TCP port {port} \(nothing answered within 0.5 s\): a firewall\?"):
            bandwidth.send("127.0.0.1", port, "t" * 32, 0.2)
        for filler in fillers:
            filler.close()
    with pytest.raises(OSError, match=r"\(connection refused\): a firewall\?"):
        bandwidth.send("127.0.0.1", port, "t" * 32, 0.2)


def test_a_receiver_that_falls_silent_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bandwidth, "_PATIENCE_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(OSError):
        bandwidth.send("127.0.0.1", silent.getsockname()[1], "t" * 32, 0.2)


def test_a_receiver_that_nobody_comes_to_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bandwidth, "_PATIENCE_S", 0.1)
    before = set(threading.enumerate())
    bandwidth.Receiver("127.0.0.1", "t" * 32, 0.1)
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive()


INVENTORY = """
all:
  children:
    ugro_nodes:
      hosts:
        a: {ansible_host: 127.0.0.1, ansible_connection: local, ugro_role: master}
        b: {ansible_host: 127.0.0.1, ansible_connection: local}
"""


def test_the_verb_measures_between_all_nodes_and_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UGRO_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(worth_links, "SECONDS", 0.2)
    (tmp_path / "hosts.yml").write_text(INVENTORY)
    asked = CliRunner().invoke(cli, ["-i", str(tmp_path / "hosts.yml"), "worth", "--json"], catch_exceptions=False)
    links = json.loads(asked.stdout)["links"]
    assert {(link["source"], link["target"]) for link in links} == {("a", "b"), ("b", "a")}
    assert all(link["mb_s"] > 1 for link in links) and json.loads(asked.stdout)["not_measured"] == []
    assert "measuring the network between 2 nodes" in asked.stderr
    assert {(link.source, link.target) for link in worth_links.kept({"a", "b"})} == {("a", "b"), ("b", "a")}
    assert worth_links.kept({"a"}) == []


def test_newer_measurements_replace_older_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UGRO_DATA", str(tmp_path))
    now = time.time()
    worth_links.keep([Link("a", "b", 100.0, 0.1, now - 10), Link("b", "a", 100.0, 0.1, now - 86400 * 31)])
    worth_links.keep([Link("a", "b", 50.0, 0.1, now)])
    assert [(link.source, link.mb_s) for link in worth_links.kept({"a", "b"})] == [("a", 50.0)]  # the other is old
    paths.bandwidth().write_text('{"links": [{"source": 1')
    assert worth_links.kept({"a", "b"}) == []
    stopped = {"source": "a", "target": "b", "mb_s": 0.0, "latency_ms": 0.1, "measured_at": now}
    for damaged in ([stopped], [stopped | {"mb_s": "fast"}], [stopped | {"mb_s": 1.0, "measured_at": 1e300}]):
        paths.bandwidth().write_text(json.dumps({"links": damaged}))
        assert worth_links.kept({"a", "b"}) == []
    worth_links.keep([Link("a", "b", 70.0, 0.1, now)])
    assert [link.mb_s for link in worth_links.kept({"a", "b"})] == [70.0]


def test_one_node_has_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UGRO_DATA", str(tmp_path))
    (tmp_path / "hosts.yml").write_text(INVENTORY.replace("        b: {", "        # b: {"))
    done = CliRunner().invoke(cli, ["-i", str(tmp_path / "hosts.yml"), "worth"])
    assert isinstance(done.exception, NodeError)
