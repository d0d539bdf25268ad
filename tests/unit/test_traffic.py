# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Rates of network and disks: from counters as kernels show them, and from this machine's own."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from ansible_collections.ugro.cluster.plugins.module_utils import samples, traffic

NET = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier comp
    lo: 9999 1 0 0 0 0 0 0 9999 1 0 0 0 0 0 0
  eth0:1000 1 0 0 0 0 0 0 2000 1 0 0 0 0 0 0
   br0: 1000 1 0 0 0 0 0 0 2000 1 0 0 0 0 0 0
"""
DISKS = """   8       0 sda 10 0 100 0 20 0 200 0 0 0 0
   8       1 sda1 10 0 100 0 20 0 200 0 0 0 0
 253       0 dm-0 10 0 100 0 20 0 200 0 0 0 0
   7       0 loop0 10 0 100 0 20 0 200 0 0 0 0
 259       0 nvme0n1 1 0 8 0 1 0 16 0 0 0 0 0 0 0 0 0 0
"""  # fmt: skip


@pytest.fixture
def machine(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/dev").write_text(NET)
    (tmp_path / "proc/diskstats").write_text(DISKS)
    for name in ("sda", "nvme0n1", "dm-0", "loop0"):
        (tmp_path / "sys/block" / name).mkdir(parents=True)
    for name in ("eth0", "br0"):
        (tmp_path / "sys/class/net" / name).mkdir(parents=True)
    return str(tmp_path / "proc"), str(tmp_path / "sys")


def test_what_goes_through_a_card_and_a_bridge_is_counted_once(machine: tuple[str, str]) -> None:
    (Path(machine[1]) / "class/net/eth0/device").mkdir()
    assert traffic.network_bytes(*machine) == (1000, 2000)


def test_without_a_card_every_interface_but_the_loopback_counts(machine: tuple[str, str]) -> None:
    assert traffic.network_bytes(*machine) == (2000, 4000)


def test_whole_disks_are_counted_and_nothing_made_of_them(machine: tuple[str, str]) -> None:
    assert traffic.disk_bytes(*machine) == (108 * 512, 216 * 512)


@pytest.mark.parametrize("text", ["", "\n\n eth0: x y z", "a\nb\nc d\n"])
def test_a_kernel_that_tells_something_else(machine: tuple[str, str], text: str) -> None:
    (Path(machine[0]) / "net/dev").write_text(text)
    (Path(machine[0]) / "diskstats").write_text("8 0 sda 1\n")
    assert traffic.network_bytes(*machine) in (None, (0, 0))
    assert traffic.disk_bytes(*machine) is None
    (Path(machine[0]) / "diskstats").unlink()
    assert traffic.disk_bytes(*machine) is None


def test_rates_are_those_between_two_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = iter([(0, 10), (3_000_000, 10), (1_000_000, 10), None, (5, 5)])
    moments = iter([0.0, 2.0, 4.0, 6.0, 8.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(moments))
    monkeypatch.setattr(traffic.Traffic, "_COUNTERS", ((("rx", "tx"), lambda: next(counted)),))
    rates = traffic.Traffic()
    assert rates.read() == {"rx": 1.5, "tx": 0.0}
    assert rates.read() == {"rx": None, "tx": 0.0}, "a counter that went back tells nothing"
    assert rates.read() == rates.read() == {"rx": None, "tx": None}


def test_a_sample_of_this_machine_has_every_reading() -> None:
    sampler = samples.SystemSampler([])
    sample = sampler.due()
    assert sample is not None
    assert list(sample) == [
        "cpu_percent", "mem_used_gb", "net_rx_mb_s", "net_tx_mb_s", "disk_read_mb_s", "disk_write_mb_s", "gpus",
    ]  # fmt: skip
    assert all(value is None or value >= 0 for key, value in sample.items() if key != "gpus")
    assert sampler.due() is None, "once a second"


def test_the_kernel_counts_what_is_written_here(tmp_path: Path) -> None:
    """On a file system of a disk; where the temporary folder is none, as in some containers, nothing is counted."""
    before = traffic.disk_bytes()
    if before is None:
        pytest.skip("the kernel tells nothing of disks here")
    with (tmp_path / "file").open("wb") as file:
        file.write(os.urandom(1 << 20))
        os.fsync(file.fileno())
    after = traffic.disk_bytes()
    assert after is not None and after[1] >= before[1]
