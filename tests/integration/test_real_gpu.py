# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""On a machine with an NVIDIA GPU: what is read of it, training on it, and what is left on it afterwards.

Elsewhere they are skipped. `pytest -s tests/integration/test_real_gpu.py` prints what was measured.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.support import Ugro, wait_until
from ugro_py import metrics
from ugro_py.paths import JobPaths

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(not shutil.which("nvidia-smi"), reason="no NVIDIA GPU here: nvidia-smi is not installed"),
]

# Holds 1 GB of the GPU until its standard input ends.
HOLDER = """
import sys, torch
held = torch.zeros(1 << 28, device="cuda")
torch.cuda.synchronize()
print("ready", flush=True)
sys.stdin.read()
"""
# Trains a matrix; each step costs some milliseconds, the line says where it is.
STEPS = """
import json, os, sys, time, torch
done = int(open(os.environ["UGRO_RESUME_FROM"]).read()) if os.environ["UGRO_RESUME_FROM"] else 0
weights = torch.randn(4096, 4096, device="cuda")
for step in range(done + 1, int(sys.argv[1]) + 1):
    for _ in range(20):
        weights = torch.nn.functional.normalize(weights @ weights)
    torch.cuda.synchronize()
    print(f"step {step} loss={1 / step:.4f}", flush=True)
    path = os.path.join(os.environ["UGRO_CHECKPOINT_DIR"], f"step_{step:06d}.pt")
    open(path, "w").write(str(step))
    with open(path + ".json.new", "w") as file:
        json.dump({"step": step, "complete": True, "size": os.path.getsize(path)}, file)
    os.rename(path + ".json.new", path + ".json")
    time.sleep(0.05)
"""
TOO_LARGE = "import torch\ntorch.zeros(1 << 44, dtype=torch.uint8, device='cuda')\n"
ALONE = ("--nodes", 1, "--include", "gpu-master")


def report(**values: object) -> None:
    """Print what was measured."""
    for name, value in values.items():
        print(f"{name}: {value}", flush=True)


def smi(*fields: str) -> list[list[str]]:
    """Return what nvidia-smi says of each GPU."""
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return [[word.strip() for word in line.split(",")] for line in text.splitlines()]


def used_mb() -> float:
    """Return the used memory of the first GPU."""
    return float(smi("memory.used")[0][0])


@contextmanager
def holder() -> Iterator[int]:
    """Somebody's process that uses the GPU; its id."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout and process.stdout.readline() == "ready\n"
        yield process.pid
    finally:
        process.communicate()


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    """A function that writes a script and returns its path."""

    def write(text: str) -> Path:
        (tmp_path / "code").mkdir(exist_ok=True)
        path = tmp_path / "code" / "main.py"
        path.write_text(text)
        return path

    return write


def _findings(ugro: Ugro) -> dict[str, Any]:
    done = ugro.start("check", "gpu-master", "--json")
    out, _ = done.communicate(timeout=120)
    return json.loads(out)["nodes"]["gpu-master"]


def test_what_is_read_is_what_nvidia_smi_says(ugro_here: Ugro) -> None:
    node = _findings(ugro_here)
    said = smi("uuid", "name", "memory.total", "driver_version")[0]
    gpu = node["report"]["gpu"]["gpus"][0]
    assert gpu["uuid"] == said[0]
    assert gpu["name"] == said[1]
    assert gpu["vram_total_gb"] == pytest.approx(float(said[2]) / 1024, rel=0.01)
    assert node["severity"] in ("ok", "warning"), node["findings"]
    report(gpu=gpu["name"], driver=said[3], check=[found["text"] for found in node["findings"]])


def test_the_deep_check_computes_on_it(ugro_here: Ugro) -> None:
    done = ugro_here.run("check", "gpu-master", "--deep")
    assert "computes on cuda" in done.stdout
    report(deep=done.stdout)


def test_a_process_that_is_not_ours_is_named_and_its_gpu_not_taken(
    ugro_here: Ugro, script: Callable[[str], Path]
) -> None:
    with holder() as pid:
        found = {one["check"]: one for one in _findings(ugro_here)["findings"]}
        report(foreign=found.get("gpu_processes"), available=found["gpu_available"])
        assert str(pid) in str(found["gpu_processes"]) or str(pid) in str(found["gpu_available"])
        refused = ugro_here.start("launch", "--name", "taken", "--no-wait", "--script", script(STEPS), *ALONE, "--", 3)
        out, err = refused.communicate(timeout=120)
        assert refused.returncode in (5, 6), (out, err)
        assert str(pid) in err or "process" in err, err


def test_training_uses_it_and_leaves_it_free(ugro_here: Ugro) -> None:
    before = used_mb()
    ugro_here.run("launch", "--name", "trains", *ALONE, "--epochs", 1, "--batch-size", 16, timeout_s=300)
    found = ugro_here.json("results", "trains", "--json")
    assert (found["status"], found["ranks"]) == ("completed", 1)
    assert found["gpu_mem_gb"] > 0.1
    assert found["gpu_util_percent"] > 0
    os.environ["UGRO_DATA"] = str(ugro_here.data)
    try:
        lines = list(metrics.read(JobPaths("trains")))
    finally:
        del os.environ["UGRO_DATA"]
    assert lines[-1]["training_loss"] < lines[0]["training_loss"]
    assert max(line["gpu_mem_used_gb"] or 0 for line in lines) > 0.1
    wait_until(lambda: used_mb() <= before + 50, "the memory is free again")
    report(results={key: value for key, value in found.items() if value is not None})
    samples = ugro_here.run("export", "trains", "--format", "json", "-o", ugro_here.data / "out.json")
    report(export=samples.stdout, stragglers=ugro_here.run("stragglers", "trains").stdout)
    one, other = ugro_here.json("results", "ls", "--json"), ugro_here.json("top", "--json")
    report(listed=one, top=other)
    ugro_here.run("launch", "--name", "again", *ALONE, "--epochs", 1, "--batch-size", 32, timeout_s=300)
    both = ugro_here.json("compare", "trains", "again", "--json")
    report(compared=json.dumps(both))
    energy = [row for row in both["figures"] if row["name"] == "GPU energy"]
    assert energy and all(value > 0 for value in energy[0]["values"]), energy


def test_a_killed_rank_is_noticed_and_the_job_goes_on_where_it_was(
    ugro_here: Ugro, script: Callable[[str], Path]
) -> None:
    before = used_mb()
    launch = ugro_here.start("launch", "--name", "hit", "--retry", 1, "--script", script(STEPS), *ALONE, "--", 150)
    ugro_here.wait_for_log("hit", "step 40", [0])
    with ugro_here.store() as store:
        pid = store.ranks("hit")[0].pid
    assert pid
    killed = time.time()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: (row := ugro_here.job("hit")).status == "completed" and row, "the job completes", 240)
    out, err = launch.communicate(timeout=60)
    assert launch.returncode == 0, (out, err)
    begun = [line for line in ugro_here.log("hit", 0).splitlines() if line.startswith("step")]
    assert int(begun[0].split()[1]) > 35
    with ugro_here.store() as store:
        told = [(round(event.at.timestamp() - killed, 2), event.text) for event in store.events("hit", limit=500)]
        assert store.attempt("hit").number == 2
    report(after_the_kill=[event for event in told if event[0] > 0], gone_on_from=begun[0])
    wait_until(lambda: used_mb() <= before + 50, "the memory is free again")


def test_memory_that_does_not_fit_is_explained(ugro_here: Ugro, script: Callable[[str], Path]) -> None:
    ugro_here.run("launch", "--name", "large", "--script", script(TOO_LARGE), *ALONE, code=7)
    told = ugro_here.run("explain", "large").stdout
    assert "memory" in told.lower()
    report(explain=told)
