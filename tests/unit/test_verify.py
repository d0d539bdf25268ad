# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The verdict on a cluster: nodes judged one by one and against each other, what is printed, and the exit code."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from ugro_py import verify
from ugro_py.cluster import Node
from ugro_py.compare import compare
from ugro_py.errors import NodeError, VerificationError

Report = dict[str, Any]
NODES = [
    Node("gpu-master", "192.168.1.100", role="master"),
    Node("gpu1", "192.168.1.101"),
    Node("gpu2", "192.168.1.102"),
]


def report(name: str, *, clock: float = 0.0, latency: float | None = 1.2, **python: Any) -> Report:
    """What a healthy CPU node answers, with other versions where given."""
    address = next(node.address for node in NODES if node.name == name)
    packages = {"torch": "2.6.0", "transformers": python.pop("transformers", "4.50.0")}
    return {
        "gpu": {"source": "none", "driver": None, "cuda": None, "error": None, "gpus": []},
        "clock_offset_s": clock,
        "latency_ms": latency,
        "node": {
            "name": name,
            "address": address,
            "hostname": name,
            "user": "ob",
            "train_python": {
                "path": "~/.ugro/venv/bin/python",
                "python": "3.11.2",
                "torch": "2.6.0",
                "cuda": None,
                "nccl": None,
                "error": None,
                **python,
                "packages": packages,
            },
            "disks": [{"path": "~/.ugro", "free_gb": 78.2, "total_gb": 251.9, "error": None}],
            "memory": {"total_gb": 31.2, "available_gb": 28.4},
            "load": [0.2, 0.1, 0.0],
            "cpu_count": 4,
            "interfaces": [{"name": "eth0", "addresses": [address], "up": True}],
            "interface": "eth0",
            "resolver": {"hostname": name, "fqdn": name, "addresses": [address], "error": None},
            "unit_manager": "user",
            "rsync": "/usr/bin/rsync",
        },
    }


def reports(**changed: Report | NodeError) -> dict[str, Any]:
    """Reports of all nodes; dashes of names are underscores here."""
    named = {name.replace("_", "-"): value for name, value in changed.items()}
    return {node.name: named.get(node.name, report(node.name)) for node in NODES}


def bad(verdict: verify.Verdict) -> list[tuple[str, str, str]]:
    return [(item.node, item.check, item.severity) for item in verdict.findings if item.severity != "ok"]


# Against each other


def test_nodes_that_agree_have_nothing_to_compare() -> None:
    verdict = verify.judge(NODES, reports())
    assert bad(verdict) == []
    assert verdict.lines() == [f"✓ {node.name}: no GPU, 4 CPUs" for node in NODES]
    verify.raise_for(verdict, "check")
    verify.raise_if_not_ready(verdict.findings)


@pytest.mark.parametrize(
    ("field", "other", "severity", "says"),
    [
        ("torch", "2.5.1", "critical", "torch differs (gpu-master 2.6.0, gpu1 2.6.0, gpu2 2.5.1)"),
        ("cuda", "12.4", "critical", "CUDA of torch differs (gpu-master none, gpu1 none, gpu2 12.4)"),
        ("nccl", "2.21.5", "critical", "NCCL differs (gpu-master none, gpu1 none, gpu2 2.21.5)"),
        ("python", "3.12.1", "warning", "Python differs (gpu-master 3.11, gpu1 3.11, gpu2 3.12)"),
        ("transformers", "4.51.0", "warning", "transformers differs (gpu-master 4.50.0, gpu1 4.50.0, gpu2 4.51.0)"),
    ],
)
def test_the_node_whose_version_differs_from_the_usual_one_is_named(
    field: str, other: str, severity: str, says: str
) -> None:
    verdict = verify.judge(NODES, reports(gpu2=report("gpu2", **{field: other})))
    assert bad(verdict) == [("gpu2", f"{field}_version", severity)]
    mark = "✗" if severity == "critical" else "!"
    assert f"{mark} gpu2: {says}; run `ugro bootstrap`" in verdict.lines()


def test_patch_versions_of_python_may_differ() -> None:
    assert bad(verify.judge(NODES, reports(gpu2=report("gpu2", python="3.11.9")))) == []


def test_a_node_without_torch_has_one_finding_and_no_version() -> None:
    verdict = verify.judge(NODES, reports(gpu2=report("gpu2", torch=None)))
    assert bad(verdict) == [("gpu2", "pytorch_ready", "critical")]


@pytest.mark.parametrize("offset", [2.1, -2.1, 86400.0])
def test_a_clock_that_is_off_is_compared_with_the_first_nodes(offset: float) -> None:
    base = report("gpu-master", clock=100.0)  # all clocks may be off from the controller's: that is no harm
    verdict = verify.judge(
        NODES, reports(gpu_master=base, gpu1=report("gpu1", clock=101.9), gpu2=report("gpu2", clock=100.0 + offset))
    )
    assert bad(verdict) == [("gpu2", "clock", "critical")]
    where = "ahead of" if offset > 0 else "behind"
    assert f"its clock is {abs(offset):.1f} s {where} that of gpu-master" in verdict.of("gpu2")[-2].text
    assert "timedatectl set-ntp true" in verdict.of("gpu2")[-2].remedy


def test_a_slow_network_is_a_warning() -> None:
    verdict = verify.judge(NODES, reports(gpu1=report("gpu1", latency=500.1), gpu2=report("gpu2", latency=None)))
    assert bad(verdict) == [("gpu1", "network_latency_ms", "warning")]


def test_reports_without_clock_or_latency_are_compared_by_what_they_have() -> None:
    both = reports(gpu2=report("gpu2", torch="2.5.1"))
    for each in both.values():
        del each["clock_offset_s"], each["latency_ms"]
    assert [(item.node, item.check) for item in compare(both)] == [("gpu2", "torch_version")]


# One by one


def test_a_name_that_does_not_resolve_stops_a_launch() -> None:
    broken = report("gpu1")
    broken["node"]["resolver"] = {
        "hostname": "gpu1", "fqdn": "gpu1", "addresses": [], "error": "Name or service not known"
    }  # fmt: skip
    verdict = verify.judge(NODES, reports(gpu1=broken))
    assert bad(verdict) == [("gpu1", "host_name", "critical")]
    with pytest.raises(verify.NotReadyError) as error:
        verify.raise_if_not_ready(verdict.findings)
    assert error.value.exit_code == 5
    assert str(error.value).splitlines() == [
        "verify gpu1: 1 finding would make a launch fail",
        "  gpu1: its own name gpu1 does not resolve (Name or service not known); "
        "add `192.168.1.101 gpu1` to /etc/hosts there",
    ]


def test_what_the_inventory_promises_is_expected() -> None:
    promising = [NODES[0], Node("gpu1", "192.168.1.101", gpu="RTX 4070", gpu_count=1, vram_gb=8), NODES[2]]
    assert bad(verify.judge(promising, reports())) == [("gpu1", "gpu_available", "critical")]


def test_an_unreachable_node_does_not_hide_what_is_wrong_with_the_others() -> None:
    gone = NodeError("gpu1: open an SSH session", "Connection refused", "run `ssh ob@192.168.1.101 true`")
    verdict = verify.judge(NODES, reports(gpu1=gone, gpu2=report("gpu2", torch=None)))
    assert verdict.lines() == [
        "✓ gpu-master: no GPU, 4 CPUs",
        "✗ gpu1: unreachable: Connection refused; run `ssh ob@192.168.1.101 true`",
        "✗ gpu2: ~/.ugro/venv/bin/python has no torch; run `ugro bootstrap` or set ugro_python in the inventory",
    ]
    with pytest.raises(NodeError, match=r"check 3 nodes: gpu1 unreachable, gpu2 not fit for training") as error:
        verify.raise_for(verdict, "check")
    assert error.value.exit_code == 4


def test_the_exit_code_of_a_node_that_is_not_fit_is_another_one() -> None:
    verdict = verify.judge(NODES, reports(gpu2=report("gpu2", torch=None)))
    with pytest.raises(VerificationError, match="check 3 nodes: gpu2 not fit for training") as error:
        verify.raise_for(verdict, "check")
    assert error.value.exit_code == 5


def test_warnings_are_shown_and_pass() -> None:
    low = report("gpu1")
    low["node"]["disks"][0]["free_gb"] = 5.0
    verdict = verify.judge(NODES, reports(gpu1=low))
    assert verdict.severity() == "warning" and verdict.severity("gpu2") == "ok"
    assert verdict.lines()[1].startswith("! gpu1: 5.0 GB free at ~/.ugro; ")
    verify.raise_for(verdict, "health")
    assert bad(verify.judge(NODES, reports(gpu1=low), {"disk_free_gb_warning": 4})) == []
    verify.raise_if_not_ready(verdict.findings)


def test_everything_lists_the_checks_that_passed_too() -> None:
    lines = verify.judge(NODES, reports()).lines(everything=True)
    assert [line for line in lines if not line.startswith(" ")] == [f"✓ {node.name}: no GPU, 4 CPUs" for node in NODES]
    assert "    ✓ torch 2.6.0" in lines and "    ✓ 1.2 ms for a round trip" in lines


def test_json_has_every_node_and_finding() -> None:
    gone = NodeError("gpu1: open an SSH session", "Connection refused", "run `ssh ob@192.168.1.101 true`")
    data = verify.judge(NODES, reports(gpu1=gone)).as_json()
    assert json.loads(json.dumps(data)) == data
    assert (data["severity"], list(data["nodes"])) == ("critical", ["gpu-master", "gpu1", "gpu2"])
    assert data["nodes"]["gpu1"]["findings"] == [
        {
            "check": "ssh_reachable",
            "severity": "critical",
            "text": "unreachable: Connection refused",
            "remedy": "run `ssh ob@192.168.1.101 true`",
            "value": None,
        }
    ]
    assert {item["check"] for item in data["nodes"]["gpu2"]["findings"]} >= {"pytorch_ready", "network_latency_ms"}


def test_logical_nodes_of_one_machine_share_its_gpus_by_turns() -> None:
    local = [Node(node.name, "127.0.0.1", role=node.role, connection="local") for node in NODES]
    one = report("gpu1")
    for index in range(4):
        gpu = {"index": index, "name": f"GPU {index}", "vram_total_gb": 8.0, "lost": False, "temperature_c": None,
               "throttle_reasons": [], "ecc": None, "processes": []}  # fmt: skip
        one["gpu"]["gpus"].append(gpu)
    one["node"]["train_python"]["cuda"] = "12.4"
    verdict = verify.judge(local, {node.name: copy.deepcopy(one) for node in local})
    assert dict(verdict.summaries) == {
        "gpu-master": "GPU 0 (8GB), GPU 3 (8GB)",
        "gpu1": "GPU 1 (8GB)",
        "gpu2": "GPU 2 (8GB)",
    }


# From the results of the module


def test_results_of_the_module_are_judged_like_reports() -> None:
    answers = {}
    for node in NODES:
        found = report(node.name, torch="2.5.1" if node.name == "gpu2" else "2.6.0")
        items = [{"check": "host_name", "severity": "ok", "text": "fine", "remedy": "", "value": None}]
        answers[node.name] = {**found, "findings": items, "summary": "no GPU, 4 CPUs"}
    assert bad(verify.judge_results(answers)) == [("gpu2", "torch_version", "critical")]


@pytest.mark.parametrize(
    ("result", "says"),
    [
        ({"unreachable": True, "msg": "Task failed: Failed to connect\n to the host"}, "Failed to connect to the host"),
        ({"failed": True, "msg": "{{ 7 * 7 }}"}, "{{ 7 * 7 }}"),
        ({}, "the reading did not run"),
    ],
)
def test_a_host_without_a_result_is_unreachable(result: Report, says: str) -> None:
    verdict = verify.judge_results({"gpu1": result})
    assert verdict.lines() == [f"✗ gpu1: unreachable: {says}; see that it is on"]
    assert verdict.is_unreachable("gpu1")
