"""How soon the health sweep notices what happens to a host on which no job runs: `python -m benchmarks.noticed`.

From the moment it happens to the event in the store: the cable pulled, the plug pulled, a GPU lost (of a stand-in).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pynvml

from benchmarks.bed import bed
from tests import nvml
from tests.lab import Host, Lab
from tests.lab.lab import labs
from ugro_py.health.sweeper import Sweeper
from ugro_py.inventory import load_cluster
from ugro_py.state import Store

PYTHON = "/opt/cuda-env/bin/python"
STATE = "/run/ugro-test-nvml"
PATIENCE_S = 60.0


def put_gpus(host: Host, library: Path) -> None:
    """Give a host two GPUs of the stand-in, and what looks like a torch for them."""
    site = "/opt/cuda-env/lib/python3.11/site-packages"
    for folder in (f"{site}/torch-2.6.0.dist-info", f"{site}/torch", "/opt/cuda-env/bin"):
        host.path(folder).mkdir(parents=True, exist_ok=True)
    host.path("/usr/lib/libnvidia-ml.so.1").write_bytes(library.read_bytes())
    host.path("/opt/cuda-env/pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.2\n")
    host.path(f"{site}/torch/version.py").write_text("cuda = '12.4'\n")
    host.path(f"{site}/pynvml.py").write_bytes(Path(str(pynvml.__file__)).read_bytes())
    host.path(PYTHON).write_text("#!/bin/sh\nexit 77\n")
    host.path(PYTHON).chmod(0o755)
    host.path("/dev/kmsg").unlink(missing_ok=True)
    host.path("/dev/kmsg").write_text("")


async def until(condition: Callable[[], bool], what: str) -> float:
    """Wait for a condition and return the time; `time.time()`, as events have it."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > PATIENCE_S:
            raise RuntimeError(f"waited {PATIENCE_S:g} s in vain: {what}")
        await asyncio.sleep(0.02)
    return time.time()


def told(store: Store, host: Host, kind: str, text: str, after: float) -> float | None:
    """Return when the store was told, None as long as it was not."""
    for event in reversed(store.events(limit=200)):
        at = event.at.timestamp()
        if (event.kind, event.node) == (kind, host.name) and text in event.text and at >= after:
            return at
    return None


async def noticed(store: Store, host: Host, kind: str, text: str, happen: Callable[[], None]) -> float:
    """Let something happen to a host and return how long it took until the store was told."""
    at = time.time()
    await asyncio.to_thread(happen)
    await until(lambda: told(store, host, kind, text, at) is not None, f"{kind} {text} of {host.name}")
    return (told(store, host, kind, text, at) or at) - at


async def measure(lab: Lab, sweeper: Sweeper, store: Store, rounds: int, gpus_alone: bool) -> dict[str, list[float]]:
    """Do `rounds` rounds, in each everything to every host, or the lost GPU alone."""
    found: dict[str, list[float]] = {"cable_pulled": [], "power_off": [], "gpu_lost": []}

    def well(host: Host) -> bool:
        health = sweeper.health.get(host.name)
        return health is not None and health.state == "healthy"

    async def network(host: Host, number: int) -> None:
        await asyncio.sleep(1.0 + (0.37 * number + 0.61 * host.index) % 3)  # at any moment between two heartbeats
        found["cable_pulled"].append(await noticed(store, host, "node_health", "unreachable", host.unplug))
        host.plug()
        await until(lambda: well(host), f"{host.name} is back")
        await asyncio.sleep(1.0 + (0.53 * number + 0.29 * host.index) % 3)
        found["power_off"].append(await noticed(store, host, "node_health", "unreachable", host.power_off))
        await asyncio.to_thread(host.boot)
        host.path("/dev/kmsg").unlink(missing_ok=True)
        host.path("/dev/kmsg").write_text("")
        await until(lambda: well(host), f"{host.name} is on again")

    async def one(host: Host, number: int) -> None:
        await until(lambda: well(host), f"{host.name} is healthy")
        if not gpus_alone:
            await network(host, number)
        await asyncio.sleep((3.1 * number + 2.3 * host.index) % 10)  # at any moment between two sweeps

        def lose() -> None:
            host.path(STATE).write_text("lost_late")

        found["gpu_lost"].append(await noticed(store, host, "node_drain", "GPU 1 is lost", lose))
        host.path(STATE).write_text("healthy")
        await until(lambda: well(host), f"{host.name} has its GPU again")
        store.resume(host.name, "bench")

    for number in range(rounds):
        await asyncio.gather(*(one(host, number) for host in lab.hosts))
        newest = {name: [round(value, 2) for value in values[-len(lab.hosts) :]] for name, values in found.items()}
        print(json.dumps(newest), flush=True)
    return found


async def body(lab: Lab, rounds: int, gpus_alone: bool) -> dict[str, list[float]]:
    """Run the sweep, and the measurement beside it."""
    cluster = load_cluster(str(lab.inventory_file("noticed.yml", ugro_python=PYTHON)))
    stop = asyncio.Event()
    with Store.open() as store:
        sweeper = Sweeper(cluster, store)
        running = asyncio.create_task(sweeper.run(stop))
        try:
            return await measure(lab, sweeper, store, rounds, gpus_alone)
        finally:
            stop.set()
            await running


def main(argv: list[str] | None = None) -> int:
    """Measure and print median and worst of each; 1 if one is over its limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.noticed", description=__doc__)
    parser.add_argument("-n", type=int, default=7, help="rounds; each does everything to three hosts [default: 7]")
    parser.add_argument("--gpus-alone", action="store_true", help="only lose GPUs, which takes a third of the time")
    options = parser.parse_args(argv)
    limits = {"cable_pulled": 5.0, "power_off": 5.0, "gpu_lost": 12.0}
    with tempfile.TemporaryDirectory() as folder, bed() as test_bed:
        number = int(test_bed.inventory.parent.parent.name)
        lab = next(lab for lab in labs() if lab.number == number)
        library = nvml.build(Path(folder)) / "libnvidia-ml.so.1"
        for host in lab.hosts:
            put_gpus(host, library)
        found = asyncio.run(body(lab, options.n, options.gpus_alone))
    held = True
    for name, values in found.items():
        if not values:
            continue
        worst = max(values)
        held = held and worst <= limits[name]
        median = statistics.median(values)
        print(f"{name:<14} median {median:5.2f} s  worst {worst:5.2f} s  limit {limits[name]:g} s  n {len(values)}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
