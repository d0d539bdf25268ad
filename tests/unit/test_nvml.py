"""GPU readings by the real nvidia-ml-py, which loads a C stand-in for libnvidia-ml.so.1."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ugro.cluster.plugins.module_utils import gpu_values

from tests import nvml

pytestmark = pytest.mark.skipif(nvml.skip_reason() is not None, reason=str(nvml.skip_reason()))

READ = """
from ansible_collections.ugro.cluster.plugins.module_utils import gpu
print(json.dumps(gpu.read_gpus(2.0)))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nvml.build(tmp_path_factory.mktemp("nvml"))


def test_every_reading_of_a_healthy_gpu(library: Path) -> None:
    report = nvml.run(library, "healthy", READ)
    gpus = report.pop("gpus")
    del report["xids"], report["xid_error"]  # of this machine's own kernel
    assert report == {"source": "nvml", "driver": "550.54.14", "cuda": "12.4", "error": None}
    assert [gpu["index"] for gpu in gpus] == [0, 1]
    assert gpus[0] == {
        "index": 0,
        "uuid": "GPU-00000000-0000-0000-0000-000000000000",
        "pci": "0000:01:00",
        "name": "NVIDIA GeForce RTX 4070",
        "vram_total_gb": 11.994,
        "vram_used_gb": 1.0,
        "util_percent": 87,
        "temperature_c": 61,
        "power_w": 181.1,
        "power_limit_w": 200.0,
        "clock_sm_mhz": 2475,
        "clock_mem_mhz": 10501,
        "throttle_reasons": ["sw_power_cap"],
        "ecc": None,
        "pcie": {"generation": 3, "width": 8, "max_generation": 4, "max_width": 16},
        "mig": None,  # the stand-in lacks that function, like an old driver
        "processes": [],
        "lost": False,
        "error": None,
    }


def test_a_hot_gpu_says_why_it_is_slow(library: Path) -> None:
    gpus = nvml.run(library, "hot", READ)["gpus"]
    assert gpus[0]["temperature_c"] == 97
    assert gpus[0]["throttle_reasons"] == ["hw_slowdown", "hw_thermal_slowdown"]


def test_ecc_errors_are_counted(library: Path) -> None:
    assert nvml.run(library, "ecc", READ)["gpus"][1]["ecc"] == {"corrected": 12, "uncorrected": 3}


@pytest.mark.parametrize(("state", "uuid"), [("lost", None), ("lost_late", "GPU-00000000-0000-0000-0000-000000000001")])
def test_a_gpu_off_the_bus_is_data_and_the_other_one_is_read(library: Path, state: str, uuid: str | None) -> None:
    report = nvml.run(library, state, READ)
    healthy, lost = report["gpus"]
    assert report["error"] is None
    assert not healthy["lost"] and healthy["temperature_c"] == 61
    assert (lost["index"], lost["uuid"], lost["lost"], lost["error"]) == (1, uuid, True, "GPU is lost")
    assert lost["temperature_c"] is None and lost["vram_total_gb"] is None


def test_readings_that_are_not_supported_are_null(library: Path) -> None:
    gpu = nvml.run(library, "not_supported", READ)["gpus"][0]
    assert not gpu["lost"] and gpu["vram_total_gb"] == 11.994
    for key in ("util_percent", "temperature_c", "power_w", "power_limit_w", "clock_sm_mhz", "ecc", "pcie"):
        assert gpu[key] is None, key
    assert gpu["throttle_reasons"] == []


def test_driver_and_library_mismatch(library: Path) -> None:
    report = nvml.run(library, "mismatch", READ)
    assert report["error"]["kind"] == "driver_library_mismatch"
    assert "version mismatch" in report["error"]["text"]
    assert report["gpus"] == []


def test_a_missing_driver_is_an_error_only_where_there_is_hardware(library: Path, tmp_path: Path) -> None:
    device = tmp_path / "0000:01:00.0"
    device.mkdir()
    (device / "vendor").write_text("0x10de\n")
    (device / "class").write_text("0x030000\n")
    program = """
from ansible_collections.ugro.cluster.plugins.module_utils import gpu
gpu._PCI_DEVICES = {!r}
print(json.dumps(gpu.read_gpus(2.0)))
"""
    report = nvml.run(library, "no_driver", program.format(str(tmp_path)))
    assert (report["source"], report["error"]["kind"]) == ("nvml", "no_driver")
    report = nvml.run(library, "no_driver", program.format(str(tmp_path / "none")))
    assert (report["source"], report["error"], report["gpus"]) == ("none", None, [])


def test_a_driver_that_hangs_is_given_up_at_the_deadline(library: Path) -> None:
    program = """
import os, time
from ansible_collections.ugro.cluster.plugins.module_utils import gpu
start = time.monotonic()
report = gpu.read_gpus(0.5)
took = time.monotonic() - start
try:
    os.waitpid(-1, os.WNOHANG)
    left = True
except ChildProcessError:
    left = False
print(json.dumps({"kind": report["error"]["kind"], "took": took, "left": left}))
"""
    answer = nvml.run(library, "hang", program)
    assert answer["kind"] == "timeout"
    assert 0.5 <= answer["took"] < 30.0
    assert not answer["left"], "the hanging child was not reaped"


def test_processes_carry_their_owner_and_their_job(library: Path) -> None:
    pids = f"{os.getpid()},{os.getppid()}"
    processes: list[dict[str, Any]] = nvml.run(library, "processes", READ, UGRO_TEST_PIDS=pids)["gpus"][0]["processes"]
    compute, graphics = processes
    assert (compute["type"], compute["pid"], compute["mem_used_gb"]) == ("compute", os.getpid(), 4.0)
    assert compute["user"] and compute["name"]
    assert (graphics["type"], graphics["pid"], graphics["mem_used_gb"]) == ("graphics", os.getppid(), None)
    # The reading process itself stands for a rank: its environment names the job.
    program = """
import os, subprocess, sys
code = "import json; from ansible_collections.ugro.cluster.plugins.module_utils import gpu;"
code += "print(json.dumps(gpu.read_gpus(2.0)['gpus'][0]['processes']))"
env = dict(os.environ, UGRO_TEST_PIDS="%d,1" % os.getpid())
print(subprocess.run([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True).stdout)
"""
    ours = nvml.run(library, "processes", program, UGRO_JOB_ID="job_001")[0]
    assert ours["job"] == "job_001"


@pytest.mark.parametrize(
    ("cgroup", "job"),
    [
        ("0::/user.slice/user-1002.slice/user@1002.service/app.slice/ugro-eva-1-3-gpu1.service\n", "eva-1"),
        ("9:name=systemd:/system.slice/ugro-first_test-1-gpu-master.service\n0::/\n", "first_test"),
        ("0::/user.slice/user-1002.slice/session-3.scope\n", None),
        ("0::/system.slice/ugro-agent.service\n", None),
    ],
)
def test_a_process_of_another_account_belongs_to_the_job_in_whose_unit_it_runs(
    library: Path, tmp_path: Path, cgroup: str, job: str | None
) -> None:
    """With `ugro_accounts` a job's processes are not the reader's own: what they hold is not somebody else's."""
    theirs = tmp_path / "4711"
    theirs.mkdir()
    (theirs / "comm").write_text("python\n")
    (theirs / "cgroup").write_text(cgroup)
    (theirs / "environ").mkdir()  # cannot be read, not even by root
    program = f"""
from ansible_collections.ugro.cluster.plugins.module_utils import gpu, gpu_findings, gpu_values
gpu_values._PROC = {str(tmp_path)!r}
report = gpu.read_gpus(2.0)
unusable = gpu_findings.unusable_gpus(report, {{"temperature_c_critical": 95.0}}, "gpu1", 0.0)
print(json.dumps([report["gpus"][0]["processes"][0]["job"], len(unusable)]))
"""
    assert nvml.run(library, "processes", program, UGRO_TEST_PIDS="4711,1") == [job, 0 if job else 1]


@pytest.mark.parametrize(("folder", "job"), [("a/1", "a"), ("a-1-gpu/2", "a-1-gpu"), ("other/1", "a-1-gpu")])
def test_a_job_of_another_account_is_told_from_one_whose_name_reads_the_same_with_its_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, job: str
) -> None:
    """ugro-a-1-gpu-2-x: attempt 1 of `a` on `gpu-2-x`, or attempt 2 of `a-1-gpu` on `x`; the supervisor above tells."""
    above = {
        4711: (4710, "python main.py --out /data/jobs/x"),
        4710: (1, f"python -I -c code /u /home/e/n/jobs/{folder}"),
    }
    for pid, (parent, words) in above.items():
        process = tmp_path / str(pid)
        process.mkdir()
        (process / "comm").write_text("python\n")
        (process / "cgroup").write_text("0::/user.slice/app.slice/ugro-a-1-gpu-2-x.service\n")
        (process / "environ").mkdir()  # cannot be read, not even by root
        (process / "stat").write_text(f"{pid} (a ) b) S {parent} 1 1\n")
        (process / "cmdline").write_bytes(words.replace(" ", "\0").encode() + b"\0")
    monkeypatch.setattr(gpu_values, "_PROC", str(tmp_path))
    assert gpu_values.process(4711, "compute", None)["job"] == job


def test_the_sampler_opens_nvml_once(library: Path) -> None:
    program = """
from ansible_collections.ugro.cluster.plugins.module_utils import gpu
sampler = gpu.Sampler(wait_s=5.0)
print(json.dumps([sampler.read() for _ in range(3)]))
"""
    samples = nvml.run(library, "lost", program)
    expected = {
        "uuid": "GPU-00000000-0000-0000-0000-000000000000",
        "index": 0,
        "util": 87,
        "mem_used_gb": 1.0,
        "temperature_c": 61,
        "power_w": 181.1,  # 181.0 and a tenth for each nvmlInit
        "clock_sm_mhz": 2475,
        "throttle": ["sw_power_cap"],
        "pcie_generation": 3,
        "pcie_width": 8,
    }
    assert samples == [[expected]] * 3


def test_the_sampler_does_not_wait_for_a_driver_that_hangs(library: Path) -> None:
    program = """
import time
from ansible_collections.ugro.cluster.plugins.module_utils import gpu
sampler = gpu.Sampler()
start = time.monotonic()
found = [sampler.read() for _ in range(3)]
print(json.dumps([found, time.monotonic() - start]), flush=True)
import os; os._exit(0)
"""
    found, took = nvml.run(library, "hang", program)
    assert found == [[], [], []]
    assert took < 30.0


def test_nvml_is_found_in_the_training_environment(library: Path, tmp_path: Path) -> None:
    import pynvml

    site = tmp_path / "lib" / "python3.11" / "site-packages"
    site.mkdir(parents=True)
    (site / "pynvml.py").write_bytes(Path(pynvml.__file__).read_bytes())
    program = """
import sys
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "pynvml" else real(name, package)
from ansible_collections.ugro.cluster.plugins.module_utils import gpu
with_it, without = gpu.read_gpus(2.0, train_python={!r}), None
del sys.modules["pynvml"]
without = gpu.read_gpus(2.0)
print(json.dumps([with_it["source"], len(with_it["gpus"]), without["source"]]))
"""
    answer = nvml.run(library, "healthy", program.format(str(tmp_path / "bin" / "python")), PATH="/nowhere")
    assert answer == ["nvml", 2, "none"]
