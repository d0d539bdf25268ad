# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What `ugro nodes add` reads off a node into the inventory, and what it refuses before it asks any node.

The hosts here are made up; tests/integration/test_nodes.py has real ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ugro_py import nodes, paths
from ugro_py.errors import InventoryError, NodeError, NotFoundError, UgroError, UsageError
from ugro_py.hostkeys import HostKey
from ugro_py.inventory import load_cluster

INVENTORY = """\
# ours
ugro_nodes:
  hosts:
    gpu-master: {ansible_host: 192.168.1.100, ugro_role: master}
    gpu1:  # under the desk
      ansible_host: 192.168.1.101
"""
KEY = HostKey("192.168.1.102", "ssh-ed25519", "AAAA", trusted=True)


def card(name: str | None, vram: float | None, **values: Any) -> dict[str, Any]:
    return {"index": 0, "name": name, "vram_total_gb": vram, "lost": False, "error": None, **values}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("UGRO_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("UGRO_DB", raising=False)
    path = tmp_path / "hosts.yml"
    path.write_text(INVENTORY)
    return path


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the nodes answer, by name; each has no GPU unless a test says otherwise."""
    given: dict[str, Any] = {}

    def report_all(asked: list[Any]) -> dict[str, Any]:
        nothing = {"gpu": {"error": None, "gpus": []}}
        return {node.name: given.get(node.name, nothing) for node in asked}

    monkeypatch.setattr(nodes, "report_all", report_all)
    monkeypatch.setattr(nodes, "read_host_key", lambda node, fingerprint: KEY)
    return given


def add(file: Path | None, name: str = "gpu2", **options: Any) -> nodes.Added:
    def confirm(node: object, key: object) -> None:
        raise AssertionError("a key that is trusted already needs no question")

    return nodes.add_node(str(file) if file else None, name, {"address": "192.168.1.102", **options}, confirm)


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ([card("NVIDIA GeForce RTX 4070", 7.996)], (1, "RTX 4070", 8)),
        ([card("NVIDIA RTX 4070", 11.994), card("NVIDIA RTX 4060", 7.996)], (2, "RTX 4070, RTX 4060", 8)),
        ([card("NVIDIA A100-PCIE-40GB", 40.0)] * 2, (2, "A100-PCIE-40GB", 40)),
        ([card("Quadro", 0.4)], (1, "Quadro", 0.4)),
        ([card(None, None)], (1, None, None)),
        ([], (None, None, None)),
    ],
)  # fmt: skip
def test_gpus_are_read_off_the_node(
    file: Path, answers: dict[str, Any], cards: list[dict[str, Any]], expected: tuple[Any, ...]
) -> None:
    answers["gpu2"] = {"gpu": {"error": None, "gpus": cards}}
    added = add(file)
    assert (added.node.gpu_count, added.node.gpu, added.node.vram_gb) == expected
    assert load_cluster(str(file)).node("gpu2") == added.node
    assert (added.notes, added.new_file, added.pinned_in) == ((), False, None)
    assert file.read_text().startswith(INVENTORY)


def test_what_the_user_says_of_the_gpus_counts(file: Path, answers: dict[str, Any]) -> None:
    answers["gpu2"] = {"gpu": {"error": None, "gpus": [card("NVIDIA RTX 4070", 12.0)]}}
    assert (add(file, gpu_count=4, vram=11.5).node.gpu_count, load_cluster(str(file)).node("gpu2").vram_gb) == (4, 11.5)


def test_gpus_that_cannot_be_read_are_told_and_the_node_is_added(file: Path, answers: dict[str, Any]) -> None:
    answers["gpu2"] = {"gpu": {"error": {"kind": "timeout", "text": "NVML does not answer"}, "gpus": []}}
    added = add(file)
    assert added.notes == ("gpu2: its GPUs cannot be read: NVML does not answer",)
    assert added.node.gpu_count is None
    lost = card("NVIDIA RTX 4070", None, index=1, lost=True, error="GPU is lost")
    answers["gpu3"] = {"gpu": {"error": None, "gpus": [card("NVIDIA RTX 4070", 12.0), lost]}}
    added = add(file, "gpu3", address="192.168.1.103")
    assert (added.node.gpu_count, added.notes) == (2, ("gpu3: GPU 1 does not answer: GPU is lost",))


def test_a_node_that_gives_no_report_is_not_added(file: Path, answers: dict[str, Any]) -> None:
    answers["gpu2"] = NodeError("gpu2: run UGRO's code", "python3: not found", "install it")
    with pytest.raises(NodeError, match="python3: not found"):
        add(file)
    assert file.read_text() == INVENTORY


def test_a_master_without_gpu_takes_no_part_beside_a_node_with_gpus(file: Path, answers: dict[str, Any]) -> None:
    answers["gpu2"] = {"gpu": {"error": None, "gpus": [card("NVIDIA RTX 4070", 12.0)]}}
    added = add(None, address="127.0.0.1")
    assert added.new_file and added.file == paths.user_inventory()
    assert any("takes no part in training: ugro_slots is 0" in note for note in added.notes)
    cluster = load_cluster(None)
    assert (cluster.source, cluster.master.connection, cluster.master.slots) == (added.file, "local", 0)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("../x", {}),
        ("a;rm -rf", {}),
        ("$(id)", {}),
        ("x" * 300, {}),
        ("gpü", {}),
        ("gpu1", {}),  # there is one
        ("gpu2", {"address": "192.168.1.101"}),  # gpu1's
        ("gpu2", {"address": "-oProxyCommand=id"}),
        ("gpu2", {"port": 0}),
        ("gpu2", {"port": 70000}),
        ("gpu2", {"slots": -1}),
        ("gpu2", {"gpu_count": -1}),
        ("gpu2", {"vram": -8.0}),
        ("gpu2", {"role": "master"}),  # a second one
        ("gpu2", {"user": "{{ lookup('pipe', 'id') }}"}),
        ("gpu2", {"ssh_args": "-o 'unclosed"}),
    ],
)
def test_wrong_input_changes_nothing(file: Path, answers: dict[str, Any], name: str, options: dict[str, Any]) -> None:
    with pytest.raises((UsageError, InventoryError)) as error:
        add(file, name, **options)
    assert "\n" not in str(error.value)
    assert file.read_text() == INVENTORY


def test_removing(file: Path) -> None:
    seen: list[str] = []
    with pytest.raises(NotFoundError, match="known nodes: gpu-master, gpu1"):
        nodes.remove_node(str(file), "gpu9", lambda node, path: None)
    with pytest.raises(UgroError):
        nodes.remove_node(str(file), "gpu-master", lambda node, path: None)

    def no(node: object, path: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nodes.remove_node(str(file), "gpu1", no)
    assert file.read_text() == INVENTORY
    nodes.remove_node(str(file), "gpu1", lambda node, path: seen.append(node.name))
    assert seen == ["gpu1"] and [node.name for node in load_cluster(str(file)).nodes] == ["gpu-master"]


def test_the_inventory_that_ugro_ships_is_not_edited(file: Path, answers: dict[str, Any]) -> None:
    shipped = paths.embedded_inventory()
    before = shipped.read_bytes()
    with pytest.raises(UsageError, match="is the inventory that UGRO ships"):
        add(shipped)
    with pytest.raises(UsageError, match="you have no inventory of your own"):
        nodes.remove_node(None, "gpu1", lambda node, path: None)
    assert shipped.read_bytes() == before
