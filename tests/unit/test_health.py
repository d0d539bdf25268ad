# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Findings from the readings of a node: what is judged, from which value on, how bad it is, and what to do."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from ansible_collections.ugro.cluster.plugins.module_utils import gpu_values, health

Reading = dict[str, Any]


def card(index: int = 0, **values: Any) -> Reading:
    """A healthy GPU, as `gpu.read_gpus` describes it."""
    reading: Reading = gpu_values.unknown(index)
    reading.update(
        uuid=f"GPU-{index}",
        name="NVIDIA GeForce RTX 4070",
        vram_total_gb=11.994,
        vram_used_gb=0.5,
        temperature_c=61,
        **values,
    )
    return reading


def gpus(*cards: Reading, **values: Any) -> Reading:
    return {"source": "nvml", "driver": "550.54.14", "cuda": "12.4", "error": None, "gpus": list(cards), **values}


def machine(**values: Any) -> Reading:
    """A healthy node, as `node.read_node` describes it."""
    return {
        "name": "gpu1",
        "address": "192.168.1.101",
        "hostname": "gpu1",
        "user": "ob",
        "train_python": {
            "path": "/home/ob/.ugro/venv/bin/python",
            "python": "3.11.2",
            "torch": "2.6.0",
            "cuda": "12.4",
            "nccl": "2.21.5",
            "packages": {"torch": "2.6.0"},
            "error": None,
        },
        "disks": [{"path": "~/.ugro", "free_gb": 78.2, "total_gb": 251.9, "error": None}],
        "memory": {"total_gb": 31.2, "available_gb": 28.4},
        "load": [0.2, 0.1, 0.0],
        "cpu_count": 4,
        "interfaces": [{"name": "eth0", "addresses": ["192.168.1.101"], "up": True}],
        "interface": "eth0",
        "resolver": {"hostname": "gpu1", "fqdn": "gpu1", "addresses": ["192.168.1.101"], "error": None},
        "unit_manager": "user",
        "rsync": "/usr/bin/rsync",
        **values,
    }


def bad(gpu: Reading, node: Reading, **more: Any) -> list[tuple[str, str, str]]:
    """Return (check, severity, line) of every finding that is not ok."""
    found = health.findings(gpu, node, **more)
    assert json.loads(json.dumps(found)) == found
    return [(item["check"], item["severity"], health.line("gpu1", item)) for item in found if item["severity"] != "ok"]


def one(gpu: Reading, node: Reading, **more: Any) -> tuple[str, str, str]:
    found = bad(gpu, node, **more)
    assert len(found) == 1, found
    return found[0]


def test_a_healthy_node_has_only_good_findings_and_nothing_to_do() -> None:
    found = health.findings(gpus(card()), machine(), expected={"gpu_count": 1, "vram_gb": 12, "gpu": "RTX 4070"})
    assert {item["severity"] for item in found} == {"ok"}
    assert {item["remedy"] for item in found} == {""}
    assert {item["check"]: item["text"] for item in found} == {
        "gpu_available": "1 GPU",
        "gpu_temperature": "GPU 0 is at 61 °C",
        "pytorch_ready": "torch 2.6.0",
        "disk_space_gb": "78.2 GB free at ~/.ugro",
        "memory_available_gb": "28.4 GB of memory available",
        "host_name": "its own name resolves to 192.168.1.101",
        "interface": "eth0 holds 192.168.1.101",
    }


def test_a_node_without_gpus_is_well_unless_the_inventory_promises_some() -> None:
    found = health.findings(gpus(source="none", driver=None, cuda=None), machine())
    assert health.worst(found) == "ok"
    assert "no GPU: it trains on CPU slots" in [item["text"] for item in found]
    assert one(gpus(card(), card(1), source="nvml"), machine(), expected={"gpu_count": 3, "name": "gpu1"}) == (
        "gpu_available",
        "critical",
        "gpu1: GPU 2 not visible to NVML (driver 550.54.14); run `ugro check gpu1 --deep`",
    )
    line = one(gpus(source="nvidia-smi", driver=None), machine(), expected={"gpu_count": 2, "name": "gpu1"})[2]
    assert "GPU 0, 1 not visible to nvidia-smi (no driver)" in line


def test_the_sources_that_a_node_without_gpus_reports_by_are_named_in_full() -> None:
    assert "to NVML" in one(gpus(source="none", driver=None), machine(), expected={"gpu_count": 1})[2]


def test_more_gpus_than_the_inventory_says() -> None:
    assert one(gpus(card(), card(1)), machine(), expected={"gpu_count": 1})[:2] == ("gpu_available", "warning")


def test_a_lost_gpu_is_critical_and_does_not_count_as_missing_too() -> None:
    lost = gpu_values.unknown(1)
    lost.update(lost=True, error="GPU is lost")
    check, severity, line = one(gpus(card(), lost), machine(), expected={"gpu_count": 2, "name": "gpu1"})
    assert (check, severity) == ("gpu_lost", "critical")
    assert line.startswith("gpu1: GPU 1 is lost (GPU is lost); look for Xid errors with `dmesg`, reboot gpu1")


@pytest.mark.parametrize(
    ("kind", "text", "remedy"),
    [
        ("driver_library_mismatch", "reboot needed", "reboot gpu1"),
        ("no_driver", "1 NVIDIA device(s)", "install the NVIDIA driver"),
        ("timeout", "NVML does not answer", "dmesg"),
        ("failed", "NVML: Unknown Error", "run `nvidia-smi` on gpu1"),
    ],
)
def test_a_driver_that_fails_is_one_finding_not_two(kind: str, text: str, remedy: str) -> None:
    report = gpus(error={"kind": kind, "text": text})
    check, severity, line = one(report, machine(), expected={"gpu_count": 2})
    assert (check, severity) == ("gpu_driver", "critical")
    assert text in line and remedy in line


@pytest.mark.parametrize(
    ("reading", "severity"),
    [(84, "ok"), (85, "warning"), (94, "warning"), (95, "critical"), (None, None)],
)
def test_temperature(reading: int | None, severity: str | None) -> None:
    gpu = card()
    gpu["temperature_c"] = reading
    found = {item["check"]: item["severity"] for item in health.findings(gpus(gpu), machine())}
    assert found.get("gpu_temperature") == severity


def test_thresholds_are_replaced_one_by_one() -> None:
    strict = {"temperature_c_warning": "60", "temperature_c_critical": None}  # text, as inventories give it
    assert one(gpus(card()), machine(), thresholds=strict)[:2] == ("gpu_temperature", "warning")
    with pytest.raises(ValueError, match="hot"):
        health.findings(gpus(card()), machine(), {"temperature_c_warning": "hot"})


def test_being_slowed_down_at_the_power_limit_is_how_a_gpu_runs() -> None:
    assert bad(gpus(card(throttle_reasons=["sw_power_cap", "gpu_idle"])), machine()) == []
    check, severity, line = one(gpus(card(throttle_reasons=["sw_power_cap", "hw_thermal_slowdown"])), machine())
    assert (check, severity) == ("gpu_throttling", "warning")
    assert "slowed down (hw_thermal_slowdown)" in line


@pytest.mark.parametrize(
    ("corrected", "uncorrected", "severity"),
    [(0, 0, None), (999, 0, None), (1000, 0, "warning"), (0, 1, "critical"), (5000, 2, "critical"), (None, None, None)],
)
def test_memory_errors(corrected: int | None, uncorrected: int | None, severity: str | None) -> None:
    found = bad(gpus(card(ecc={"corrected": corrected, "uncorrected": uncorrected})), machine())
    assert [item[:2] for item in found] == ([("gpu_ecc", severity)] if severity else [])


def test_somebody_elses_process_is_named_and_our_own_is_not() -> None:
    process = {"pid": 4242, "type": "compute", "user": "eve", "name": "python3", "mem_used_gb": 8.9, "job": None}
    ours, window = process | {"job": "job_001"}, process | {"type": "graphics"}
    assert bad(gpus(card(processes=[ours, window])), machine()) == []
    check, severity, line = one(gpus(card(processes=[process])), machine(), expected={"name": "gpu1"})
    assert (check, severity) == ("gpu_processes", "warning")
    assert line == (
        "gpu1: GPU 0 is used by eve (python3, PID 4242, 8.9 GB); "
        "wait for it, or leave the GPU out: `ugro launch --exclude gpu1:0`"
    )
    nameless = process | {"user": None, "name": None, "mem_used_gb": None}
    assert "used by an unknown user (unknown program, PID 4242)" in one(gpus(card(processes=[nameless])), machine())[2]


def test_what_the_inventory_says_of_a_card_is_compared() -> None:
    found = bad(gpus(card()), machine(), expected={"gpu_count": 1, "vram_gb": 24, "gpu": "rtx 4090"})
    assert [item[:2] for item in found] == [("gpu_model", "warning")] * 2
    assert "GPU 0 has 12.0 GB of memory, the inventory says 24" in found[0][2]
    assert "GPU 0 is a NVIDIA GeForce RTX 4070, the inventory says rtx 4090" in found[1][2]


def python(**values: Any) -> Reading:
    node = copy.deepcopy(machine())
    node["train_python"].update(values)
    return node


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"error": "~/.ugro/venv/bin/python is not there"}, "training Python: ~/.ugro/venv/bin/python is not there"),
        ({"torch": None}, "/home/ob/.ugro/venv/bin/python has no torch"),
        ({"cuda": None}, "torch 2.6.0 is built without CUDA, so it cannot use the GPU"),
        ({"cuda": "13.0"}, "torch 2.6.0 is built for CUDA 13.0, the driver (550.54.14) supports 12.4"),
    ],
)
def test_a_torch_that_cannot_train_here(values: Reading, text: str) -> None:
    check, severity, line = one(gpus(card()), python(**values))
    assert (check, severity) == ("pytorch_ready", "critical")
    assert text in line and "; " in line


def test_a_torch_that_can() -> None:
    assert bad(gpus(card()), python(cuda="12.8")) == []  # newer within the major version of the driver's CUDA
    assert bad(gpus(source="none"), python(cuda=None)) == []  # a node without GPU needs no CUDA
    assert bad(gpus(card(), cuda=None), python(cuda="13.0")) == []  # what the driver supports is not known
    assert bad(gpus(card()), machine(train_python=None)) == []  # not asked for


@pytest.mark.parametrize(("free", "severity"), [(10.0, "ok"), (9.9, "warning"), (1.0, "warning"), (0.9, "critical")])
def test_disk_space(free: float, severity: str) -> None:
    node = machine(disks=[{"path": "/data", "free_gb": free, "total_gb": 100.0, "error": None}])
    found = next(item for item in health.findings(gpus(), node) if item["check"] == "disk_space_gb")
    assert (found["severity"], found["value"]) == (severity, free)
    assert bool(found["remedy"]) == (severity != "ok")


def test_a_file_system_that_does_not_answer() -> None:
    node = machine(disks=[{"path": "/nfs", "free_gb": None, "total_gb": None, "error": "no answer within 3 s"}])
    assert one(gpus(), node)[1:] == ("critical", "gpu1: file system of /nfs: no answer within 3 s; check its mounts")


@pytest.mark.parametrize(("free", "severity"), [(2.0, None), (1.9, "warning"), (0.4, "critical"), (None, None)])
def test_memory(free: float | None, severity: str | None) -> None:
    found = bad(gpus(), machine(memory={"total_gb": 31.2, "available_gb": free}))
    assert [item[:2] for item in found] == ([("memory_available_gb", severity)] if severity else [])


@pytest.mark.parametrize(("load", "cpus", "is_bad"), [(15.9, 4, False), (16.0, 4, True), (4.0, 0, True)])
def test_load_counts_per_cpu(load: float, cpus: int, is_bad: bool) -> None:
    found = bad(gpus(), machine(load=[99.0, load, 0.0], cpu_count=cpus))
    assert [item[:2] for item in found] == ([("load_per_cpu", "warning")] if is_bad else [])


def test_a_host_that_cannot_resolve_its_own_name() -> None:
    resolver = {"hostname": "gpu1", "fqdn": "gpu1.lan", "addresses": [], "error": "Name or service not known"}
    check, severity, line = one(gpus(), machine(resolver=resolver))
    assert (check, severity) == ("host_name", "critical")
    assert line == (
        "gpu1: its own name gpu1.lan does not resolve (Name or service not known); "
        "add `192.168.1.101 gpu1` to /etc/hosts there"
    )


def test_the_interface_that_holds_the_address() -> None:
    assert one(gpus(), machine(interface=None))[:2] == ("interface", "critical")
    down = [{"name": "eth0", "addresses": ["192.168.1.101"], "up": False}]
    assert "eth0, which holds 192.168.1.101, is down" in one(gpus(), machine(interfaces=down))[2]
    assert bad(gpus(), machine(address=None, interface=None)) == []  # not asked for


def test_what_only_a_node_behind_ssh_needs() -> None:
    bare = machine(rsync=None, unit_manager="none")
    assert bad(gpus(), bare, expected={"connection": "local"}) == []
    found = bad(gpus(), bare, expected={"connection": "ssh", "name": "gpu1"})
    assert [item[:2] for item in found] == [("rsync", "critical"), ("unit_manager", "warning")]
    assert "loginctl enable-linger ob" in found[1][2]


def test_the_worst_severity() -> None:
    assert health.worst([]) == "ok"
    ordered = [{"severity": "warning"}, {"severity": "ok"}]
    assert health.worst(ordered) == "warning"
    assert health.worst([*ordered, {"severity": "critical"}]) == "critical"


@pytest.mark.parametrize(
    ("report", "text"),
    [
        (gpus(card()), "RTX 4070 (12GB)"),
        (gpus(card(), card(1)), "2 x RTX 4070 (12GB)"),
        (gpus(card(lost=True)), "no GPU, 4 CPUs"),
        (gpus(), "no GPU, 4 CPUs"),
    ],
)
def test_what_a_node_trains_with(report: Reading, text: str) -> None:
    assert health.summary(report, machine()) == text


def test_what_a_gpu_without_a_name_or_size_is_called() -> None:
    odd = card()
    odd.update(name=None, vram_total_gb=None)
    assert health.summary(gpus(odd), machine()) == "unknown GPU"
    odd.update(name="NVIDIA")
    assert health.summary(gpus(odd), machine(cpu_count=1)) == "NVIDIA"
    assert health.summary(gpus(), machine(cpu_count=1)) == "no GPU, 1 CPU"
