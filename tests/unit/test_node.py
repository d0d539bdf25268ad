"""Readings of this very machine, and of interpreters made for the test."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.ugro.cluster.plugins.module_utils import deadline, interfaces, node, pythons


def test_the_whole_reading_is_json(tmp_path: Path) -> None:
    before = time.time()
    reading = node.read_node(address="127.0.0.1", paths=[str(tmp_path)], name="gpu1")
    assert before <= reading["clock"] <= time.time()
    assert json.loads(json.dumps(reading)) == reading
    assert (reading["name"], reading["interface"]) == ("gpu1", "lo")
    assert reading["hostname"] == socket.gethostname()
    assert reading["is_root"] == (os.geteuid() == 0)
    assert reading["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert 0 < reading["memory"]["available_gb"] <= reading["memory"]["total_gb"]
    assert reading["cpu_count"] == len(os.sched_getaffinity(0))
    assert reading["unit_manager"] in ("system", "user", "none")
    assert reading["rsync"] == shutil.which("rsync")
    assert reading["train_python"] is None


def test_free_disk_space_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    disks = node.read_node(paths=[str(tmp_path / "a" / "b"), str(tmp_path)])["disks"]
    usage = shutil.disk_usage(tmp_path)
    for disk in disks:
        assert disk["error"] is None
        assert disk["total_gb"] == round(usage.total / 2**30, 3)
        assert abs(disk["free_gb"] - usage.free / 2**30) < 1.0


def test_an_address_that_nobody_holds() -> None:
    assert node.read_node(address="203.0.113.77")["interface"] is None
    assert node.read_node(address="127.0.0.2")["interface"] == "lo"
    assert node.read_node(address="localhost")["interface"] == "lo"


@pytest.mark.skipif(shutil.which("ip") is None, reason="needs iproute2 to compare with")
def test_interfaces_are_those_of_iproute2() -> None:
    shown = json.loads(subprocess.run(["ip", "-j", "addr"], capture_output=True, check=True).stdout)
    expected = {
        item["ifname"]: sorted(info["local"] for info in item["addr_info"] if "local" in info) for item in shown if item
    }
    assert {item["name"]: sorted(item["addresses"]) for item in interfaces.read_interfaces()} == expected
    assert next(item for item in interfaces.read_interfaces() if item["name"] == "lo")["up"]


def test_a_host_name_that_does_not_resolve(tmp_path: Path) -> None:
    program = (
        "import json; from ansible_collections.ugro.cluster.plugins.module_utils import node;"
        "print(json.dumps(node.read_node()['resolver']))"
    )
    command = ["unshare", "--uts", "sh", "-c", 'hostname no-such-host.invalid && exec "$0" -c "$1"']
    done = subprocess.run([*command, sys.executable, program], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        pytest.skip(f"needs root to change the host name: {done.stderr.strip()[:80]}")
    resolver = json.loads(done.stdout)
    assert resolver["hostname"] == "no-such-host.invalid"
    assert resolver["addresses"] == []
    assert resolver["error"]


class TestPythons:
    def environment(self, root: Path, **packages: str) -> Path:
        """Make a folder that looks like a virtual environment, with packages by metadata only."""
        site = root / "lib" / "python3.12" / "site-packages"
        site.mkdir(parents=True)
        (root / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.12.4\n")
        program = root / "bin" / "python"
        program.parent.mkdir()
        # Running it would fail: everything must come from the folder.
        program.write_text("#!/bin/sh\nexit 77\n")
        program.chmod(0o755)
        for name, version in packages.items():
            (site / f"{name}-{version}.dist-info").mkdir()
        (site / "torch").mkdir()
        (site / "torch" / "version.py").write_text(
            "from typing import Optional\n__version__ = '2.6.0+cu124'\ncuda: Optional[str] = '12.4'\nhip = None\n"
        )
        return program

    def test_an_environment_is_read_from_its_folder(self, tmp_path: Path) -> None:
        program = self.environment(
            tmp_path / "venv", torch="2.6.0+cu124", transformers="4.50.0", nvidia_nccl_cu12="2.21.5", flask="3.0"
        )
        assert pythons.read_python(str(program)) == {
            "path": str(program),
            "python": "3.12.4",
            "torch": "2.6.0+cu124",
            "cuda": "12.4",
            "nccl": "2.21.5",
            "packages": {"nvidia-nccl-cu12": "2.21.5", "torch": "2.6.0+cu124", "transformers": "4.50.0"},
            "error": None,
        }

    def test_a_conda_environment(self, tmp_path: Path) -> None:
        program = self.environment(tmp_path / "conda", torch="2.6.0")
        (tmp_path / "conda" / "pyvenv.cfg").unlink()
        (tmp_path / "conda" / "conda-meta").mkdir()
        (tmp_path / "conda" / "conda-meta" / "python-3.12.4-h5148396_1.json").touch()
        assert pythons.read_python(str(program))["python"] == "3.12.4"

    def test_this_interpreter_asked_directly_agrees_with_its_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        by_folder = pythons.read_python(sys.executable)
        monkeypatch.setattr(pythons, "_from_folder", lambda program: None)
        assert pythons.read_python(sys.executable, deadline_s=60.0) == by_folder
        assert by_folder["python"] == ".".join(map(str, sys.version_info[:3]))
        assert by_folder["packages"]["nvidia-ml-py"]

    def test_torch_is_not_imported(self) -> None:
        program = (
            "import sys; from ansible_collections.ugro.cluster.plugins.module_utils import pythons;"
            "pythons.read_python(sys.executable); print('torch' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
        assert done.stdout == "False\n"

    @pytest.mark.parametrize(
        ("script", "deadline_s", "expected"),
        [
            ("#!/bin/sh\necho 'ImportError: broken' >&2; exit 1\n", 60.0, "ImportError: broken"),
            ("#!/bin/sh\nexec sleep 600\n", 0.3, "does not answer within 0.3 s"),
            ("#!/no/such/interpreter\n", 60.0, "cannot be run"),
        ],
    )
    def test_a_broken_interpreter_is_a_text(
        self, tmp_path: Path, script: str, deadline_s: float, expected: str
    ) -> None:
        program = tmp_path / "python"
        program.write_text(script)
        program.chmod(0o755)
        reading = pythons.read_python(str(program), deadline_s=deadline_s)
        assert expected in reading["error"]
        assert reading["torch"] is None

    def test_an_interpreter_that_is_not_there(self) -> None:
        assert pythons.read_python("~/no/such/python")["error"] == "~/no/such/python is not there"


class TestDeadline:
    def test_a_value_comes_back(self) -> None:
        assert deadline.Call(lambda: {"big": "x" * 300_000}).result(60.0) == {"big": "x" * 300_000}

    def test_an_exception_comes_back_as_text(self) -> None:
        with pytest.raises(deadline.CallError, match=r"FileNotFoundError: .*no_such_file"):
            deadline.Call(lambda: os.stat("/no_such_file")).result(60.0)

    def test_a_process_that_dies(self) -> None:
        with pytest.raises(deadline.CallError, match="died"):
            deadline.Call(lambda: os.kill(os.getpid(), 9)).result(60.0)

    def test_a_late_answer_is_given_up_and_its_process_killed(self) -> None:
        call = deadline.Call(lambda: time.sleep(60))
        start = time.monotonic()
        with pytest.raises(deadline.DeadlineError):
            call.result(0.2)
        assert time.monotonic() - start < 10.0
        with pytest.raises(ProcessLookupError):
            os.kill(call._pid, 0)

    def test_calls_run_side_by_side(self, tmp_path: Path) -> None:
        def meet(number: int) -> bool:
            (tmp_path / str(number)).touch()
            while len(list(tmp_path.iterdir())) < 10:  # none ends before all have begun
                time.sleep(0.01)
            return True

        calls = [deadline.Call(lambda number=number: meet(number)) for number in range(10)]
        assert all(call.result(60.0) for call in calls)
