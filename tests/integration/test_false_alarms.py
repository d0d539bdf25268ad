# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Nothing is wrong, it is only slow: no alarm, and no job is ended.

UGRO_CALM_S=600 for the specification's ten minutes. A network that is cut for two seconds is no failure either.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.agents import running_agent
from tests.integration.support import PLAY, SCRIPTS, Ugro
from tests.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.slow]

CALM_S = float(os.environ.get("UGRO_CALM_S", "15"))
DELAY_S = 0.1  # each way: a round trip takes 200 ms more
CUT_S = 2.0
# What says that a node, a GPU or a rank is not well, or is treated so.
ALARMS = (
    "node_suspect", "node_lost", "node_back", "rank_failed", "rank_frozen", "gpu_lost", "stray", "task_failed",
    "part_failed", "lease_lost", "collect_failed", "copy_failed", "left_over",
)  # fmt: skip


@contextmanager
def busy_cores() -> Iterator[None]:
    """Keep every core of this machine, and with it every host of the lab, busy."""
    command = [sys.executable, "-S", "-c", "while True: pass"]
    burners = [subprocess.Popen(command) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def cpu_ticks() -> tuple[int, int]:
    """Return the idle and all the clock ticks of this machine's cores since boot."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return ticks[3] + ticks[4], sum(ticks[:8])


def idle_share(before: tuple[int, int]) -> float:
    """Return how much of the cores' time since `before` was idle."""
    idle, every = cpu_ticks()
    return (idle - before[0]) / (every - before[1])


def slow_inventory(lab: Lab) -> Path:
    """Write the lab's inventory with a slow line to every host."""
    inventory = lab.inventory()
    proxy = shlex.join([sys.executable, "-S", str(SCRIPTS / "slow_line.py"), "%h", "%p", str(DELAY_S)])
    for host in inventory["all"]["children"]["ugro_nodes"]["hosts"].values():
        host["ansible_ssh_common_args"] += f' -o "ProxyCommand={proxy}"'
    path = lab.inventory_file("slow.yml")
    path.write_text(json.dumps(inventory))  # JSON is YAML
    return path


def alarms(ugro: Ugro) -> list[str]:
    """Return the events that say that something is wrong; that every core is busy may be among the findings."""
    with ugro.store() as store:
        events = store.events(limit=1000)
    bad = [event for event in events if event.kind in ALARMS or "unreachable" in event.text]
    return [f"{event.at:%H:%M:%S} {event.kind}: {event.text}" for event in bad]


def follow_to_its_end(ugro: Ugro, job: str, steps: int, timeout_s: float) -> None:
    """The job completes in its first attempt, and every line it printed has arrived."""
    row = ugro.wait_for(job, "completed", "failed", "stopped", timeout_s=timeout_s)
    assert (row.status, row.reason) == ("completed", ""), alarms(ugro)
    status: dict[str, Any] = ugro.json("status", job, "--json")
    assert status["attempt"] == 1
    for rank in range(3):
        assert [line.split()[1] for line in ugro.log(job, rank).splitlines()] == [str(n) for n in range(1, steps + 1)]


@pytest.mark.alone
@pytest.mark.timeout(300 + 2 * CALM_S)
def test_load_and_a_slow_line_raise_no_alarm(make_lab: Callable[..., Lab], fresh_home: Path, tmp_path: Path) -> None:
    lab = make_lab(3)
    ugro = Ugro(fresh_home, tmp_path / "data", slow_inventory(lab), lab)
    steps = int(CALM_S / 0.25)
    try:
        with running_agent(ugro), busy_cores():
            begun, before = time.monotonic(), cpu_ticks()
            ugro.run("launch", "-d", "--name", "calm", "--script", PLAY, "--", "steps", steps, 0.25)
            told = time.monotonic() - begun
            follow_to_its_end(ugro, "calm", steps, CALM_S * 2 + 120)
            idle = idle_share(before)
            print(f"{time.monotonic() - begun:.0f} s at full load with a slow line; `ugro launch -d` took {told:.1f} s")
            assert alarms(ugro) == []
            assert idle < 0.1, f"the load was none: {idle:.0%} idle"
    finally:
        ugro.close()


def test_a_cut_of_two_seconds_is_no_failure(make_lab: Callable[..., Lab], fresh_home: Path, tmp_path: Path) -> None:
    lab = make_lab(3)
    ugro = Ugro(fresh_home, tmp_path / "data", lab.inventory_file(), lab)
    try:
        with running_agent(ugro):
            ugro.run("launch", "-d", "--name", "blink", "--script", PLAY, "--", "steps", 120, 0.1)
            ugro.wait_for_log("blink", "step 2 ", range(3))
            for host in (lab.host("gpu1"), lab.host("gpu-master")):
                host.unplug()
                time.sleep(CUT_S)  # what is tested is the length of the cut
                host.plug()
                time.sleep(1.5)
            follow_to_its_end(ugro, "blink", 120, 60)
            lost = [text for text in alarms(ugro) if " node_lost" in text or "unreachable" in text]
            assert lost == []
    finally:
        ugro.close()
