# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""How the ranks of a gang find each other: addresses and interfaces that no resolver and no guess has a part in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ugro_py.cluster import Cluster, Node
from ugro_py.plan import Gang, new_token, node_spec
from ugro_py.request.job import JobRequest
from ugro_py.scheduler import Gpu, Placement

NODES = (
    Node("gpu-master", "192.168.1.100", role="master"),
    Node("gpu1", "192.168.1.101"),
    Node("gpu2", "192.168.1.102"),
)
INTERFACES = {"gpu-master": "enp5s0", "gpu1": "eno1", "gpu2": "br0"}


def specs(*args: str) -> dict[str, dict]:  # type: ignore[type-arg]
    cluster = Cluster("lab", NODES, Path("hosts.yml"))
    gpus = [Gpu(f"CPU-{node.name}-0", node.name, 0, "cpu", "CPU", None) for node in NODES]
    places = tuple(Placement(rank, gpu.node, 0, gpu) for rank, gpu in enumerate(gpus))
    gang = Gang("a", 1, places, NODES[0].address, 29500, new_token())
    request = JobRequest("a", script="train.py", workdir="/x", args=args)
    return {
        node.name: node_spec(gang, node, request, cluster, {"node": {"interface": INTERFACES[node.name]}}, 1)
        for node in NODES
    }


def test_torchrun_is_told_the_address_of_its_node() -> None:
    """torchrun would ask a resolver for its own name, which fails or says 127.0.1.1 on many machines."""
    for node in NODES:
        command = specs()[node.name]["launches"][0]["command"]
        assert command[command.index("--local-addr") + 1] == node.address
        assert command[command.index("--master-addr") + 1] == NODES[0].address


@pytest.mark.torch
def test_torchrun_leaves_the_words_of_the_script_alone() -> None:
    """It would refuse `--n 200` as an option that could be several of its own, and take `--role` for its own."""
    words = ["--n", "200", "--m", "--role", "x", "--", "-t", "--", "y"]
    command = specs(*words)["gpu1"]["launches"][0]["command"]
    code = "import sys; from torch.distributed import run; print(run.parse_args(sys.argv[1:]).training_script_args)"
    done = subprocess.run([sys.executable, "-c", code, *command[3:]], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == repr(["-S", "{rank_exec}", "{attempt}", "{python}", "train.py", *words])


def test_each_node_talks_through_the_interface_that_holds_its_address() -> None:
    for name, spec in specs().items():
        assert spec["env"]["GLOO_SOCKET_IFNAME"] == INTERFACES[name]
        # "=": this one alone, not each whose name begins so.
        assert spec["env"]["NCCL_SOCKET_IFNAME"] == f"={INTERFACES[name]}"


def test_a_gang_is_known_by_a_word_that_nobody_guesses() -> None:
    """The store of the rendezvous asks nobody who they are: another gang's ranks must not meet in it by chance."""
    words = {new_token() for _ in range(100)}
    assert len(words) == 100 and all(len(bytes.fromhex(word)) == 16 for word in words)
    for spec in specs().values():
        command = spec["launches"][0]["command"]
        assert spec["token"].startswith(command[command.index("--rdzv-id") + 1])
