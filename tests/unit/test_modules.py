# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The modules run as Ansible runs them: arguments in as JSON on stdin, one JSON object out, an exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import nvml
from ugro_py import paths
from ugro_py.runner import run_playbook

Result = dict[str, Any]
MODULES = paths.collection_dir() / "plugins" / "modules"
RECORDED = Path(__file__).parents[1] / "data" / "nvidia_smi"
FIRST = "GPU-00000000-0000-0000-0000-000000000000"


def run_module(module: str, env: dict[str, str], **arguments: Any) -> Result:
    """Run a module's file with this Python and return its answer, with `rc` added."""
    done = subprocess.run(
        [sys.executable, str(MODULES / f"{module}.py")],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    answer: Result = json.loads(done.stdout)
    assert done.returncode == int(answer.get("failed", False)), done.stderr
    assert answer["changed"] is False if "changed" in answer else answer["failed"]
    return answer


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in for NVIDIA's driver library."""
    reason = nvml.skip_reason()
    if reason:
        pytest.skip(reason)
    return nvml.build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def by_nvml(library: Path) -> Callable[..., Result]:
    """Run a module on a node whose NVML is in the given state."""
    return lambda module, state, **arguments: run_module(module, nvml.environment(library, state), **arguments)


@pytest.fixture
def by_nvidia_smi() -> Callable[..., Result]:
    """Run a module on a node that has nvidia-smi and no NVML; the recording says what it answers."""

    def run(module: str, recording: str, **arguments: Any) -> Result:
        env = {**os.environ, "PATH": f"{RECORDED}:/usr/bin:/bin", "UGRO_TEST_SMI": str(RECORDED / recording)}
        return run_module(module, env, **arguments)

    return run


def by_check(answer: Result) -> dict[str, Result]:
    return {item["check"]: item for item in answer["findings"] if item["severity"] != "ok"}


# gpu_info


def test_gpu_info_reads_a_healthy_node(by_nvml: Callable[..., Result]) -> None:
    answer = by_nvml("gpu_info", "healthy")
    assert (answer["source"], answer["driver"], answer["cuda"], answer["error"]) == ("nvml", "550.54.14", "12.4", None)
    assert [(gpu["uuid"], gpu["temperature_c"], gpu["lost"]) for gpu in answer["gpus"]] == [
        (FIRST, 61, False),
        (FIRST[:-1] + "1", 61, False),
    ]


@pytest.mark.parametrize("state", ["lost", "lost_late", "not_supported", "mismatch", "hot", "ecc"])
def test_gpu_info_never_fails_on_a_sick_gpu(by_nvml: Callable[..., Result], state: str) -> None:
    answer = by_nvml("gpu_info", state)
    assert [gpu["lost"] for gpu in answer["gpus"]] == {
        "lost": [False, True],
        "lost_late": [False, True],
        "mismatch": [],
    }.get(state, [False, False])
    assert (answer["error"] or {}).get("kind") == ("driver_library_mismatch" if state == "mismatch" else None)


@pytest.mark.parametrize(
    ("recording", "lost", "kind"),
    [
        ("good", [False, False], None),
        ("not_supported", [False], None),
        ("lost", [True, False], None),
        ("lost_flag", [False, True], None),
        ("no_devices", [], None),
        ("mismatch", [], "driver_library_mismatch"),
    ],
)
def test_gpu_info_by_nvidia_smi(
    by_nvidia_smi: Callable[..., Result], recording: str, lost: list[bool], kind: str | None
) -> None:
    answer = by_nvidia_smi("gpu_info", recording)
    assert answer["source"] == "nvidia-smi"
    assert [gpu["lost"] for gpu in answer["gpus"]] == lost
    assert (answer["error"] or {}).get("kind") == kind


@pytest.mark.parametrize("which", ["nvml", "nvidia-smi"])
def test_gpu_info_gives_a_driver_up_at_the_deadline(request: pytest.FixtureRequest, which: str) -> None:
    run = request.getfixturevalue("by_nvml" if which == "nvml" else "by_nvidia_smi")
    answer = run("gpu_info", "hang", deadline=0.5)
    assert (answer["source"], answer["error"]["kind"]) == (which, "timeout")
    assert answer["error"]["text"].endswith("does not answer within 0.5 s")


# gpu_health


def test_gpu_health_of_a_healthy_node(by_nvml: Callable[..., Result], tmp_path: Path) -> None:
    answer = by_nvml(
        "gpu_health",
        "healthy",
        name="gpu1",
        paths=[str(tmp_path)],
        expected={"gpu_count": 2, "vram_gb": 8, "gpu": "RTX 40", "connection": "local"},
        thresholds={"disk_free_gb_critical": 0, "memory_available_gb_critical": 0},
    )
    assert answer["severity"] in ("ok", "warning")  # this machine may be short of disk or memory
    assert answer["summary"] == "RTX 4070 (12GB), RTX 4060 (8GB)"
    assert not any(check.startswith("gpu_") for check in by_check(answer))
    assert [len(answer["gpu"]["gpus"]), answer["node"]["name"]] == [2, "gpu1"]


@pytest.mark.parametrize(
    ("state", "check", "severity", "words"),
    [
        ("hot", "gpu_temperature", "critical", "GPU 0 is at 97 °C"),
        ("hot", "gpu_throttling", "warning", "hw_slowdown, hw_thermal_slowdown"),
        ("ecc", "gpu_ecc", "critical", "3 uncorrected memory errors"),
        ("lost", "gpu_lost", "critical", "GPU 1 is lost (GPU is lost)"),
        ("mismatch", "gpu_driver", "critical", "reboot needed"),
        ("hang", "gpu_driver", "critical", "NVML does not answer within 0.5 s"),
    ],
)
def test_gpu_health_finds_what_is_wrong(
    by_nvml: Callable[..., Result], state: str, check: str, severity: str, words: str
) -> None:
    answer = by_nvml("gpu_health", state, name="gpu1", fail_on="never", deadline=0.5 if state == "hang" else 5)
    finding = next(item for item in answer["findings"] if item["check"] == check)
    assert finding["severity"] == severity and words in finding["text"] and finding["remedy"]
    assert answer["severity"] == "critical"


def test_gpu_health_fails_from_the_severity_it_is_told(by_nvml: Callable[..., Result]) -> None:
    fine = {"disk_free_gb_warning": 0, "memory_available_gb_warning": 0, "memory_available_gb_critical": 0}
    warm = {**fine, "load_per_cpu_warning": 10_000, "temperature_c_warning": 50}
    settings = {"name": "gpu1", "expected": {"connection": "local"}, "thresholds": warm}
    assert "msg" not in by_nvml("gpu_health", "healthy", **settings)
    answer = by_nvml("gpu_health", "healthy", fail_on="warning", **settings)
    assert answer["msg"].splitlines() == [
        f"gpu1: GPU {index} is at 61 °C; check its fans and the air flow of gpu1" for index in (0, 1)
    ]
    answer = by_nvml("gpu_health", "lost", **settings)
    assert answer["failed"] and answer["msg"].startswith("gpu1: GPU 1 is lost") and "61 °C" not in answer["msg"]
    assert len(answer["gpu"]["gpus"]) == 2  # the readings come along with the failure


def test_gpu_health_by_nvidia_smi(by_nvidia_smi: Callable[..., Result]) -> None:
    answer = by_nvidia_smi("gpu_health", "good", fail_on="never")
    assert answer["summary"] == "RTX 4070 (12GB), A100-PCIE-40GB (40GB)"
    assert "PID 2147480000" in by_check(answer)["gpu_processes"]["text"]
    answer = by_nvidia_smi("gpu_health", "hang", deadline=0.5)
    assert "nvidia-smi does not answer within 0.5 s" in answer["msg"]


@pytest.mark.parametrize(
    "wrong",
    [{"fail_on": "sometimes"}, {"thresholds": {"heat": 3}}, {"expected": {"gpus": 2}}, {"deadline": "soon"}],
)
def test_gpu_health_refuses_options_it_does_not_know(by_nvml: Callable[..., Result], wrong: Result) -> None:
    answer = by_nvml("gpu_health", "healthy", **wrong)
    assert answer["failed"]
    assert str(next(iter(wrong))) in answer["msg"]


# node_info


def test_node_info_reads_this_machine(tmp_path: Path) -> None:
    answer = run_module(
        "node_info",
        dict(os.environ),
        name="gpu1",
        address="127.0.0.1",
        paths=[str(tmp_path)],
        train_python="~/no/python",
    )
    node = answer["node"]
    assert (node["name"], node["interface"], node["disks"][0]["path"]) == ("gpu1", "lo", str(tmp_path))
    assert node["train_python"]["error"].endswith("/no/python is not there")
    assert abs(node["clock"] - time.time()) < 30


# Through Ansible, which packs the module with its module_utils and sends it away


def test_the_modules_travel_with_all_they_import(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node's Python has no site-packages (-S), so it sees only what Ansible packed."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    play = {
        "hosts": "all",
        "gather_facts": False,
        "vars": {"ansible_connection": "local", "ansible_python_interpreter": str(python)},
        "tasks": [
            {"name": "gpus", "ugro.cluster.gpu_info": {"train_python": sys.executable}},
            {"name": "node", "ugro.cluster.node_info": {"name": "a"}},
            {
                "name": "health",
                "ugro.cluster.gpu_health": {"name": "a", "fail_on": "never", "train_python": sys.executable},
            },
        ],
    }
    playbook, inventory = tmp_path / "playbook.yml", tmp_path / "hosts.yml"
    playbook.write_text(json.dumps([play]))
    inventory.write_text("all: {hosts: {a: }}")
    monkeypatch.setattr(paths, "playbook", lambda name: playbook)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library))
    monkeypatch.setenv("UGRO_TEST_NVML", "lost")
    run = run_playbook("x", inventory=inventory, check=True)
    assert run.ok and not run.changed, run.failures
    assert [gpu["lost"] for gpu in run.results["gpus"]["a"]["gpus"]] == [False, True]
    assert run.results["node"]["a"]["node"]["name"] == "a"
    assert run.results["health"]["a"]["severity"] == "critical"
    # This only Ansible, on the controller, can tell: the action plugin beside the module.
    assert run.results["health"]["a"]["clock_offset_s"] == 0.0
