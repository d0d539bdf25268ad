"""GPU readings by nvidia-smi, played back from recorded outputs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ugro.cluster.plugins.module_utils import gpu, nvidia_smi

DATA = Path(__file__).parents[1] / "data" / "nvidia_smi"
FIRST, SECOND = "GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f", "GPU-9d3d1c0b-7c1f-2f40-9a50-6a3f0f3e7b11"


@pytest.fixture(autouse=True)
def only_nvidia_smi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let this machine have nvidia-smi and no NVML; `play` chooses the recording."""
    monkeypatch.setattr(gpu, "_LIBRARY", "libnvidia-ml-not-here.so.1")
    monkeypatch.setattr(gpu, "_PCI_DEVICES", str(tmp_path))
    monkeypatch.setenv("PATH", f"{DATA}:/usr/bin:/bin")


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda name: monkeypatch.setenv("UGRO_TEST_SMI", str(DATA / name))


def test_every_reading(play: Any) -> None:
    play("good")
    report = gpu.read_gpus()
    gpus = report.pop("gpus")
    del report["xids"], report["xid_error"]  # of this machine's own kernel
    assert report == {"source": "nvidia-smi", "driver": "550.54.14", "cuda": "12.4", "error": None}
    processes = gpus[0].pop("processes")
    assert gpus[0] == {
        "index": 0,
        "uuid": FIRST,
        "pci": "0000:01:00",
        "name": "NVIDIA GeForce RTX 4070",
        "vram_total_gb": 11.994,
        "vram_used_gb": 9.594,
        "util_percent": 87,
        "temperature_c": 61,
        "power_w": 181.5,
        "power_limit_w": 200.0,
        "clock_sm_mhz": 2475,
        "clock_mem_mhz": 10501,
        "throttle_reasons": ["sw_power_cap"],
        "ecc": None,
        "pcie": {"generation": 4, "width": 16, "max_generation": 4, "max_width": 16},
        "mig": None,
        "lost": False,
        "error": None,
    }
    assert gpus[1]["ecc"] == {"corrected": 12, "uncorrected": 0}
    assert gpus[1]["mig"] is False
    assert gpus[1]["throttle_reasons"] == ["gpu_idle"]
    first, gone = processes
    assert (first["pid"], first["user"], first["mem_used_gb"], first["type"]) == (1, "root", 8.887, "compute")
    assert (gone["pid"], gone["user"], gone["mem_used_gb"]) == (2147480000, None, None)


def test_not_supported_and_not_available_are_null(play: Any) -> None:
    play("not_supported")
    only = gpu.read_gpus()["gpus"][0]
    assert (only["name"], only["temperature_c"], only["lost"]) == ("NVIDIA GeForce GT 710", 45, False)
    for key in ("util_percent", "power_w", "power_limit_w", "clock_sm_mhz", "clock_mem_mhz", "ecc", "pcie", "mig"):
        assert only[key] is None, key
    assert only["throttle_reasons"] == []


def test_a_gpu_without_a_device_handle_is_lost_and_keeps_its_place(play: Any) -> None:
    play("lost")
    report = gpu.read_gpus()
    assert report["error"] is None
    lost, healthy = report["gpus"]
    assert (lost["index"], lost["lost"], lost["error"]) == (0, True, "Unknown Error (PCI 0000:01:00.0)")
    assert (healthy["index"], healthy["uuid"], healthy["lost"]) == (1, SECOND, False)


def test_the_only_gpu_is_lost(play: Any) -> None:
    play("alone_lost")
    report = gpu.read_gpus()
    assert report["error"] is None
    assert [(item["index"], item["lost"]) for item in report["gpus"]] == [(0, True)]
    assert report["gpus"][0]["error"].startswith("GPU is lost.")


def test_cells_that_say_lost(play: Any) -> None:
    play("lost_flag")
    assert [(item["uuid"], item["lost"], item["error"]) for item in gpu.read_gpus()["gpus"]] == [
        (FIRST, False, None),
        (SECOND, True, "GPU is lost"),
    ]


def test_driver_and_library_mismatch(play: Any) -> None:
    play("mismatch")
    assert gpu.read_gpus()["error"] == {
        "kind": "driver_library_mismatch",
        "text": "nvidia-smi: Failed to initialize NVML: Driver/library version mismatch NVML library version: 550.54",
    }


def test_fields_that_an_old_driver_does_not_know(play: Any) -> None:
    play("old_driver")
    report = gpu.read_gpus()
    assert (report["driver"], report["cuda"], report["error"]) == ("418.87.00", None, None)
    only = report["gpus"][0]
    assert (only["temperature_c"], only["mig"], only["throttle_reasons"]) == (61, None, [])


def test_no_devices_is_not_an_error(play: Any) -> None:
    play("no_devices")
    report = gpu.read_gpus()
    assert (report["source"], report["error"], report["gpus"]) == ("nvidia-smi", None, [])


def test_no_driver_is_an_error_only_where_there_is_hardware(play: Any, tmp_path: Path) -> None:
    play("no_driver")
    assert gpu.read_gpus()["error"] is None
    device = tmp_path / "0000:01:00.0"
    device.mkdir()
    (device / "vendor").write_text("0x10de\n")
    (device / "class").write_text("0x030200\n")
    assert gpu.read_gpus()["error"]["kind"] == "no_driver"


def test_hardware_without_any_driver_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(nvidia_smi, "find", lambda: None)
    device = tmp_path / "0000:01:00.0"
    device.mkdir()
    (device / "vendor").write_text("0x10de\n")
    (device / "class").write_text("0x030000\n")
    report = gpu.read_gpus()
    assert (report["source"], report["error"]["kind"]) == ("none", "no_driver")
    (device / "class").write_text("0x040300\n")  # its sound device alone is no GPU
    assert gpu.read_gpus()["error"] is None


def test_a_hang_ends_at_the_deadline(play: Any) -> None:
    play("hang")
    start = time.monotonic()
    report = gpu.read_gpus(0.5)
    assert time.monotonic() - start < 30.0
    assert report["error"] == {"kind": "timeout", "text": "nvidia-smi does not answer within 0.5 s"}


def test_a_program_that_cannot_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "nvidia-smi"
    broken.write_text("\x7fELF not really")
    broken.chmod(0o755)
    monkeypatch.setattr(nvidia_smi, "find", lambda: str(broken))
    assert gpu.read_gpus()["error"]["kind"] == "failed"


def test_samples(play: Any) -> None:
    play("lost")
    assert gpu.Sampler(wait_s=10.0).read() == [
        {"uuid": SECOND, "index": 1, "util": 0, "mem_used_gb": 0.001, "temperature_c": 38, "power_w": 22.1,
         "clock_sm_mhz": 210, "throttle": [], "pcie_generation": 4, "pcie_width": 16}
    ]  # fmt: skip


def test_the_sampler_does_not_wait_for_a_hang(play: Any) -> None:
    play("hang")
    sampler = gpu.Sampler(max_age_s=0.5)
    start = time.monotonic()
    assert [sampler.read() for _ in range(3)] == [[], [], []]
    assert time.monotonic() - start < 30.0


def test_without_a_gpu_a_sample_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia_smi, "find", lambda: None)
    monkeypatch.setattr(gpu.threading, "Thread", lambda **_: pytest.fail("a thread was started"))
    assert gpu.Sampler().read() == []
