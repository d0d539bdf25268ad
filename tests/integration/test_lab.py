# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The lab itself: hosts that are real, apart from each other, and gone without a trace afterwards."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.support import wait_until
from tests.lab import Lab, labs, sweep
from tests.lab.sharing import CHECKOUT

pytestmark = pytest.mark.lab


def _links() -> str:
    return subprocess.run(["ip", "-o", "link"], check=True, capture_output=True, text=True).stdout


def test_hosts_are_full_machines_that_know_each_other(lab3: Lab) -> None:
    """Own name, user, port, home and systemd; every name resolves on every host."""
    script = (
        "hostname; id -un; systemctl is-system-running --wait; "  # they take logins before all of it is there
        "echo $HOME; ls -A $HOME /tmp; getent hosts gpu-master gpu1 gpu2"
    )
    shown = [host.run(["sh", "-c", script], check=False).stdout.split("\n") for host in lab3.hosts]
    assert [lines[:4] for lines in shown] == [
        ["gpu-master", "root", "running", "/root"],
        ["gpu1", "ob", "running", "/home/ob"],
        ["gpu2", "ollie", "running", "/home/ollie"],
    ]
    for lines in shown:
        assert all(f"{host.address}" in " ".join(lines) for host in lab3.hosts)
        assert "ugro_data" not in lines
    assert lab3.hosts[2].port == 2222


def test_users_run_the_shared_python_and_their_own_user_units(lab3: Lab) -> None:
    for host in lab3.hosts:
        answer = host.run([sys.executable, "-c", "import yaml; print(yaml.__file__)"]).stdout
        assert answer.startswith(sys.prefix)
        assert host.run(["test", "-f", f"{CHECKOUT}/galaxy.yml"]).returncode == 0
        scope = [] if host.user == "root" else ["--user"]
        unit = host.run(["systemd-run", *scope, "--wait", "--pipe", "--quiet", "id", "-un"])
        assert unit.stdout.strip() == host.user


def test_no_host_shares_the_cgroups_of_its_units(lab3: Lab) -> None:
    """Units of one name on two hosts would else be one group, which the first to finish removes under the other."""
    groups = set()
    for host in lab3.hosts:
        lines = Path(f"/proc/{host.leader}/cgroup").read_text().splitlines()
        groups.add(next(line for line in lines if "name=systemd" in line or line.startswith("0::")))
    assert len(groups) == len(lab3.hosts), groups


def test_a_host_key_that_changed_is_refused(lab3: Lab, tmp_path: Path) -> None:
    host, other = lab3.hosts[0], lab3.hosts[1]
    wrong = tmp_path / "known_hosts"
    wrong.write_text(f"{host.address} {other.host_key}\n")
    command = [part.replace(str(lab3.known_hosts), str(wrong)) for part in host.ssh_command()]
    command[1:1] = ["-o", "ControlPath=none"]  # the first value of an option counts
    answer = subprocess.run([*command, "true"], check=False, capture_output=True, text=True, timeout=30)
    assert answer.returncode == 255
    assert "HOST IDENTIFICATION HAS CHANGED" in answer.stderr


def test_the_inventory_is_the_clusters(lab3: Lab) -> None:
    from ugro_py.inventory import load_cluster

    cluster = load_cluster(lab3.inventory_file("self-test.yml", slots={"gpu1": 2}))
    assert [(node.name, node.user, node.port, node.slots) for node in cluster.nodes] == [
        ("gpu-master", "root", 22, 1),
        ("gpu1", "ob", 22, 2),
        ("gpu2", "ollie", 2222, 1),
    ]
    assert cluster.master.name == "gpu-master"


def test_a_pulled_cable_silences_a_host_until_it_is_back(lab3: Lab) -> None:
    host = lab3.hosts[1]
    host.unplug()
    try:
        with pytest.raises(TimeoutError):  # silence, not a refusal
            socket.create_connection((host.address, host.port), timeout=1)
        assert host.enter(["hostname"]).stdout.strip() == host.name
    finally:
        host.plug()
    socket.create_connection((host.address, host.port), timeout=10).close()


def test_processes_are_found_by_token_and_killed(lab3: Lab) -> None:
    host = lab3.hosts[2]
    token = f"token-{os.getpid()}"
    host.run(["sh", "-c", f"MARK={token} setsid sleep 300 >/dev/null 2>&1 </dev/null &"])
    # Its shell may be gone before the process has become what has the variable.
    found = wait_until(lambda: host.processes(token), "the process is found by its token")
    assert not lab3.hosts[1].processes(token)
    host.kill(found)
    wait_until(lambda: not host.processes(token), "it is gone")


def test_a_small_disk_fills_up(lab3: Lab) -> None:
    host = lab3.hosts[1]
    disk = f"{host.home}/small"
    host.small_disk(disk, 1)
    host.run(["sh", "-c", f"echo fits > {disk}/a"])
    host.fill_disk(disk)
    full = host.run(["sh", "-c", f"head -c 5000 /dev/zero > {disk}/b"], check=False)
    assert "No space left" in full.stderr
    host.enter(["umount", disk])


def test_a_cpu_limit_slows_a_host(lab3: Lab) -> None:
    host = lab3.hosts[0]
    spin = "import time; a = time.monotonic(); sum(range(4_000_000)); print(time.monotonic() - a)"

    def seconds() -> float:
        return float(host.run(["/usr/bin/python3", "-c", spin]).stdout)

    host.cpu_limit(5)
    limited = seconds()
    host.cpu_limit(None)
    wait_until(lambda: limited > 2 * seconds(), "it is as fast as before: the machine may be busy for a moment")


def test_power_off_boot_and_down_leave_no_trace(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(2, users=["ob", "root"], ports=[2200, 22])
    host = lab.hosts[0]
    host.run(["sh", "-c", "echo kept > ~/file"])
    before = (host.pid, host.leader)
    host.power_off()
    assert not host.is_on()
    assert not any(Path(f"/proc/{pid}/ns/net").is_symlink() and os.path.exists(f"/proc/{pid}/exe") for pid in before)
    with pytest.raises((subprocess.CalledProcessError, subprocess.TimeoutExpired)):
        host.run(["true"], timeout=3)  # over the connection it has, which nobody has told
    host.boot()
    assert host.run(["cat", "file"]).stdout == "kept\n"
    pids = [process for each in lab.hosts for process in each.processes()]
    lab.down()
    assert not lab.folder.exists()
    assert f"{lab.bridge}:" not in _links()  # lab 19 is none of the lab 192 that another has booted meanwhile
    assert f"vb-ul{lab.number}-" not in _links()
    mounts = [Path(line.split()[1]) for line in Path("/proc/mounts").read_text().splitlines()]
    assert not [path for path in mounts if path.is_relative_to(lab.folder)]
    assert not any(os.path.exists(f"/proc/{pid}/exe") for pid in pids)


def test_the_lab_of_a_killed_process_is_swept() -> None:
    program = "import time; from tests.lab import Lab; print(Lab.up(1).number, flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", program], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    number = int(process.stdout.readline())
    sweep()
    assert number in [lab.number for lab in labs()]
    process.kill()
    process.wait()
    process.stdout.close()
    sweep()  # or whoever boots a lab at this moment
    assert number not in [lab.number for lab in labs()]
    assert f"ugrolab{number}:" not in _links()
