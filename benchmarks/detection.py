"""How soon a job's controller notices what happens to its ranks and nodes: `python -m benchmarks.detection`.

From the moment it happens on the host to the event in the store, on three hosts with one running job: a rank killed, a
rank frozen (SIGSTOP), a host's plug and its cable pulled. Hosts of the lab share the machine's clock. Each is repeated
`UGRO_DETECT_N` times (20); the median and the worst are printed as JSON.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from benchmarks.bed import SCRIPTS, Bed, bed
from tests.lab import Host
from tests.lab.lab import labs
from ugro_py.state import Store

LIMITS = {"rank_killed": 0.5, "plug_pulled": 5.0, "cable_pulled": 5.0, "rank_frozen": 15.0}
_PATIENCE_S = 180.0
_GO = SCRIPTS / "waits.py"


def main() -> int:
    """Measure every kind; 0 if no median or worst was above its limit."""
    count = int(os.environ.get("UGRO_DETECT_N", "20"))
    with bed() as test_bed:
        lab = next(one for one in labs() if test_bed.inventory.is_relative_to(one.folder))
        found = {kind: [_one(test_bed, lab.hosts[1], kind, number) for number in range(count)] for kind in LIMITS}
    rows = {
        kind: {"median": round(statistics.median(times), 3), "worst": round(max(times), 3), "limit": LIMITS[kind]}
        for kind, times in found.items()
    }
    sys.stdout.write(json.dumps(rows, indent=1) + "\n")
    return 0 if all(row["worst"] <= row["limit"] for row in rows.values()) else 1


def _one(test_bed: Bed, host: Host, kind: str, number: int) -> float:
    """Run a job, let it happen on the host of rank 1, and return the seconds until the store has the event."""
    job = f"{kind.replace('_', '-')}-{number}"
    argv = test_bed.ugro_argv("launch", "--script", str(_GO), "--nodes", "3", "--name", job)
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(lambda: _logs(test_bed, job) == 3, f"the ranks of {job}")
        time.sleep(1.0 + number % 5 / 5)  # at another moment between two heartbeats each time
        pid = next(pid for pid in host.processes(_token(test_bed, job)) if _is_rank(pid))
        happen: dict[str, tuple[str, Callable[[], object]]] = {
            "rank_killed": ("rank_failed", lambda: os.kill(pid, 9)),
            "rank_frozen": ("rank_frozen", lambda: os.kill(pid, 19)),
            "plug_pulled": ("node_lost", host.power_off),
            "cable_pulled": ("node_lost", host.unplug),
        }
        event, do = happen[kind]
        begun = time.time()
        do()
        return _wait(lambda: _told(test_bed, job, event), f"{event} of {job}") - begun
    finally:
        subprocess.run(test_bed.ugro_argv("stop", job, "--force"), capture_output=True, check=False)
        process.wait()
        if kind == "plug_pulled":
            host.boot()
        elif kind == "cable_pulled":
            host.plug()
            _wait(lambda: not [pid for pid in host.processes(_token(test_bed, job)) if _is_rank(pid)], "its end")


def _token(test_bed: Bed, job: str) -> str:
    gang = json.loads((test_bed.jobs / job / "attempts" / "1" / "gang.json").read_text(encoding="utf-8"))
    return str(gang["gang"]["token"])


def _is_rank(pid: int) -> bool:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        return words[-1] == _GO.name.encode() and len(words) == 2  # torchrun has more words
    return False


def _logs(test_bed: Bed, job: str) -> int:
    return sum("ready" in log.read_text() for log in (test_bed.jobs / job / "logs").glob("rank_*.log"))


def _told(test_bed: Bed, job: str, kind: str) -> float:
    with Store.open(f"sqlite:///{test_bed.home}/data/ugro.db") as store:
        events = [event for event in store.events(job, limit=200) if event.kind == kind]
    return events[0].at.timestamp() if events else 0.0


def _wait(found: Callable[[], float], what: str) -> float:
    deadline = time.monotonic() + _PATIENCE_S
    while not (value := found()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {_PATIENCE_S:g} s in vain: {what}")
        time.sleep(0.05)
    return value


if __name__ == "__main__":
    sys.exit(main())
