"""From the moment something breaks on a host to the running agent's event of it. The median and the worst.

Six hosts with two GPUs each (a stand-in for NVML) and one `ugro agent`. Jobs of two nodes, given to the agent with
`ugro launch -d`, three at a time; the second node of each is hit at another moment each time: its rank is killed or
frozen (SIGSTOP), its cable or its plug is pulled, its GPU falls off the bus. The same to hosts on which no job runs is
the health sweep's to notice. Hosts of the lab share the machine's clock, and the event's time is when it was stored.

UGRO_DETECT_N is how often each is done, 6 if not set, which takes about four minutes; the limits are meant for 20,
which take more than ten. UGRO_DETECT_ONLY names figures, with commas between them, where not all are wanted.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.agent_idle import running_agent
from benchmarks.bed import SCRIPTS, Bed, bed
from benchmarks.measure import Figure
from tests.lab import Host
from tests.nvml import hosts as gpus
from ugro_py.inventory import load_cluster
from ugro_py.state import Store

NAME = "detection"
_GO = SCRIPTS / "waits.py"
_HOSTS = 6
_PATIENCE_S = 120.0
_POLL_S = 0.05
# How busy and how full this machine is would make its hosts degraded; that is not what is measured.
_CALM = {
    "load_per_cpu_warning": 1e6, "memory_available_gb_warning": 0.0, "memory_available_gb_critical": 0.0,
    "disk_free_gb_warning": 0.0, "disk_free_gb_critical": 0.0,
}  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """What is done to a host, which event is to tell of it (its text holds `text`), and within how many seconds."""

    name: str
    event: str
    limit_s: float
    text: str = ""


ON_A_JOB = (
    Kind("rank_killed", "rank_failed", 0.5),
    Kind("rank_frozen", "rank_frozen", 15.0),
    Kind("plug_pulled", "node_lost", 5.0),
    Kind("cable_pulled", "node_lost", 5.0),
    Kind("gpu_lost", "gpu_lost", 12.0),
)
WITHOUT_A_JOB = (
    Kind("plug_pulled", "node_health", 5.0, "unreachable"),
    Kind("cable_pulled", "node_health", 5.0, "unreachable"),
    Kind("gpu_lost", "node_drain", 12.0, "is lost"),
)


def measure(_bed: Bed, n: int | None = None) -> list[Figure]:
    """Do everything `n` times on a lab of its own."""
    count = n or int(os.environ.get("UGRO_DETECT_N", "6"))
    with bed(_HOSTS) as many:
        lab = many.lab  # this very object: hosts that another one of it boots again would outlive the lab
        for host in lab.hosts:
            gpus.give(host, many.home / "nvml")
        inventory = lab.inventory(ugro_python=gpus.PYTHON)
        inventory["all"]["vars"]["ugro_health"] = {"thresholds": _CALM}
        path = lab.folder / "inventory" / "gpus.yml"
        path.write_text(json.dumps(inventory))  # JSON is YAML
        many = replace(many, inventory=path, cluster=load_cluster(path))
        with running_agent(many), Store.open() as store, ThreadPoolExecutor(_HOSTS) as pool:
            place = _Place(many, store, pool)
            pairs = list(zip(lab.hosts[::2], lab.hosts[1::2], strict=True))
            figures = []
            for name, kind, busy in _wanted():
                one, where = (place.on_a_job, pairs) if busy else (place.without_a_job, lab.hosts)
                figures.append(place.all_of(name, kind, count, one, where))
            return figures


def _wanted() -> list[tuple[str, Kind, bool]]:
    """Return the figures to measure: name, what is done, and whether a job runs there."""
    named = [(f"detect_{kind.name}", kind, True) for kind in ON_A_JOB]
    named += [(f"detect_idle_{kind.name}", kind, False) for kind in WITHOUT_A_JOB]
    only = set(filter(None, os.environ.get("UGRO_DETECT_ONLY", "").split(",")))
    if unknown := only - {name for name, _kind, _busy in named}:
        raise ValueError(f"UGRO_DETECT_ONLY names unknown figures: {', '.join(sorted(unknown))}")
    return [entry for entry in named if not only or entry[0] in only]


class _Place:
    """The lab with an agent that runs."""

    def __init__(self, bed: Bed, store: Store, pool: ThreadPoolExecutor) -> None:
        self._bed, self._store, self._pool = bed, store, pool
        self._launching = threading.Lock()

    def all_of(
        self, name: str, kind: Kind, count: int, one: Callable[..., float], places: Sequence[Host | tuple[Host, Host]]
    ) -> Figure:
        """Do one thing `count` times, at several places at once."""
        values: list[float] = []
        while len(values) < count:
            numbers = range(len(values), min(count, len(values) + len(places)))
            values += self._pool.map(one, numbers, [kind] * len(numbers), places)
        print(f"{name}: {sorted(round(value, 2) for value in values)}", file=sys.stderr, flush=True)
        return Figure(name, "s", values, kind.limit_s)

    def on_a_job(self, number: int, kind: Kind, pair: tuple[Host, Host]) -> float:
        """Run a job on two hosts and break it on the second."""
        host, job = pair[1], f"{kind.name.replace('_', '-')}-{number}"
        for one in pair:
            self._wait_well(one)
        chosen = [word for one in pair for word in ("--include", f"{one.name}:1")]
        with self._launching:  # nobody may send the files of many jobs at once
            self._bed.ugro("launch", "-d", "--name", job, "--script", str(_GO), *chosen)
        try:
            _wait(lambda: self._ready(job) == 2, f"the ranks of {job}")
            _wait(lambda: self._store.job(job).status == "running", f"{job} runs")
            time.sleep(1.0 + number % 7 / 7)  # at another moment between two heartbeats each time
            pid = next(pid for pid in host.processes(self._token(job)) if _is_rank(pid))
            return self._noticed(kind, host, pid, job)
        finally:
            self._bed.ugro("stop", job, "--force")
            self._repair(kind, host)
            if kind.name == "cable_pulled":
                _wait(lambda: not any(map(_is_rank, host.processes(self._token(job)))), f"the ranks of {job} are gone")

    def without_a_job(self, number: int, kind: Kind, host: Host) -> float:
        """Break a host on which nothing runs."""
        self._wait_well(host)
        # At another moment between two heartbeats, or two sweeps, each time.
        time.sleep((2.3 * number % 10.0) if kind.name == "gpu_lost" else 1.0 + number % 7 / 2)
        try:
            return self._noticed(kind, host, 0, None)
        finally:
            self._repair(kind, host)

    def _noticed(self, kind: Kind, host: Host, pid: int, job: str | None) -> float:
        """Let it happen, and return the seconds until the store had the event."""
        happen: dict[str, Callable[[], object]] = {
            "rank_killed": lambda: os.kill(pid, signal.SIGKILL),
            "rank_frozen": lambda: os.kill(pid, signal.SIGSTOP),
            "plug_pulled": host.power_off,
            "cable_pulled": host.unplug,
            "gpu_lost": lambda: gpus.lose(host, 1),
        }
        before, begun = self._store.newest_event(), time.time()
        happen[kind.name]()

        def told() -> float:
            for event in self._store.events_after(before, job=job, kinds=(kind.event,)):
                if event.node == host.name and kind.text in event.text:
                    return event.at.timestamp()
            return 0.0

        return _wait(told, f"{kind.event} of {host.name}, {job or 'no job'}") - begun

    def _repair(self, kind: Kind, host: Host) -> None:
        if kind.name == "plug_pulled":
            host.boot()
            gpus.quiet_kernel(host)
        elif kind.name == "cable_pulled":
            host.plug()
        elif kind.name == "gpu_lost":
            gpus.mend(host)

    def _wait_well(self, host: Host) -> None:
        """Wait until jobs may run on the host, and its GPUs are there."""

        def well() -> bool:
            row = next((row for row in self._store.nodes() if row.name == host.name), None)
            if row is None or row.health != "healthy":
                return False
            if self._store.unusable_gpus().keys() & {gpus.uuid(host, 0), gpus.uuid(host, 1)}:
                return False
            if host.name in self._store.unschedulable():
                self._store.resume(host.name, "bench")
            return True

        _wait(well, f"{host.name} is well")

    def _token(self, job: str) -> str:
        gang = json.loads((self._bed.jobs / job / "attempts" / "1" / "gang.json").read_text(encoding="utf-8"))
        return str(gang["gang"]["token"])

    def _ready(self, job: str) -> int:
        return sum("ready" in log.read_text() for log in (self._bed.jobs / job / "logs").glob("rank_*.log"))


def _is_rank(pid: int) -> bool:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        return words[-1] == _GO.name.encode() and len(words) == 2  # torchrun has more words
    return False


def _wait(found: Callable[[], float], what: str) -> float:
    deadline = time.monotonic() + _PATIENCE_S
    while not (value := found()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {_PATIENCE_S:g} s in vain: {what}")
        time.sleep(_POLL_S)
    return value
